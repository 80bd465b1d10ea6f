//! The one route table: what is served where, and what handlers work with.
//!
//! Where there is a listener for operators and publishers (`server.internal_listen`), it serves
//! everything, and the public one only what subscribers and their pages need.

use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, Version};
use actix_web::web::{self, ServiceConfig, delete, get, head, post};
use actix_web::{HttpRequest, HttpResponse, Resource, ResponseError, Route, guard};

use super::Parts;
use crate::auth::Auth;
use crate::console::Asset;
use crate::model::{Code, Problem};
use crate::protocol::{Entry, Protocols, WayBack};
use crate::session::{Sessions, require_handshake};
use crate::{admin, console, ingress};

/// Routes the requests of one listener on one worker thread.
pub(super) fn configure(services: &mut ServiceConfig, parts: &Parts, sessions: Sessions) {
    let Parts { auth, broker, bodies, metrics, limits, entrance, settings, .. } = parts.clone();
    services
        .app_data(web::Data::new(sessions))
        .app_data(web::Data::new(entrance))
        .app_data(web::Data::new(broker))
        .app_data(web::Data::from(auth))
        .app_data(web::Data::from(metrics))
        .app_data(web::Data::from(bodies))
        .app_data(web::Data::from(limits))
        .app_data(web::Data::from(settings));
    // They are tried in order, and those of publishers are asked for most.
    if parts.is_inside {
        for_publishers(services);
    } else {
        let events = path("/v1/topics/{topic}/events", "GET, HEAD");
        let all = path("/v1/events", "GET, HEAD");
        services
            .service(events.route(get_or_head().to(ingress::read_events)))
            .service(all.route(get_or_head().to(ingress::read_matching_events)));
    }
    for_everyone(services);
    for_protocols(services, parts.protocols);
    if parts.is_inside {
        for_operators(services, parts.is_local);
    }
}

fn for_everyone(services: &mut ServiceConfig) {
    services
        .service(
            path("/v1/topics/{topic}/presence", "GET, HEAD")
                .route(get_or_head().to(admin::presence)),
        )
        .service(
            path("/v1/topics/{topic}", "GET, HEAD").route(get_or_head().to(ingress::read_topic)),
        )
        .service(path("/v1/topics", "GET, HEAD").route(get_or_head().to(ingress::list_topics)))
        .service(path("/v1/snapshot", "GET, HEAD").route(get_or_head().to(ingress::read_snapshot)))
        .service(path("/v1/topic-tree", "GET, HEAD").route(get_or_head().to(ingress::read_tree)))
        .service(path("/v1/caller", "GET, HEAD").route(get_or_head().to(admin::read_caller)))
        .service(path("/v1/cursor", "GET, HEAD").route(get_or_head().to(ingress::read_cursor)))
        .service(path("/v1/tickets", "POST").route(post().to(admin::make_ticket)))
        .service(path("/health/live", "GET, HEAD").route(get_or_head().to(admin::live)))
        .service(path("/health/ready", "GET, HEAD").route(get_or_head().to(admin::ready)));
    for asset in &console::DOCS {
        let file = move |request: HttpRequest| async move { asset.response(request.headers()) };
        let file = get_or_head().to(file);
        services.service(path(asset.path, "GET, HEAD").route(file));
    }
    for module in &console::CLIENT {
        let file = move |request: HttpRequest| async move { module.response(request.headers()) };
        services.service(path(module.path, "GET, HEAD").route(get_or_head().to(file)));
    }
}

/// The places where connections begin, and where clients say things beside theirs.
fn for_protocols(services: &mut ServiceConfig, protocols: Protocols) {
    // Before paths with parameters, which would match theirs.
    for way_back in protocols.ways_back() {
        let WayBack { path: at, read } = way_back;
        let heard = move |sending, request, broker, limits| {
            ingress::overhear(sending, request, broker, limits, *read)
        };
        services.service(path(at, "POST").route(post().to(heard)));
    }
    for entry in protocols.websockets() {
        let hint = get_or_head().to(without_upgrade);
        services.service(path(entry.path, "GET, HEAD").route(hint));
    }
    for entry in protocols.streams() {
        services.service(stream(entry));
    }
}

/// The place of a connection that is a stream.
fn stream(entry: &'static Entry) -> Resource {
    let at = match &entry.by_body {
        None => path(entry.path, "GET, HEAD"),
        Some(by_body) => {
            let by_body = move |sessions, request, payload| {
                Sessions::stream_of_body(sessions, request, payload, (entry, by_body))
            };
            path(entry.path, "GET, HEAD, POST").route(post().to(by_body))
        }
    };
    at.route(get().to(move |sessions, request| Sessions::stream(sessions, request, entry)))
        .route(head().to(move |sessions, request| Sessions::stream_head(sessions, request, entry)))
}

fn for_publishers(services: &mut ServiceConfig) {
    services
        .service(
            path("/v1/topics/{topic}/events", "GET, HEAD, POST, DELETE")
                .route(post().to(ingress::publish_event))
                .route(get_or_head().to(ingress::read_events))
                .route(delete().to(ingress::forget_events)),
        )
        .service(
            path("/v1/events", "GET, HEAD, POST")
                .route(post().to(ingress::publish_batch))
                .route(get_or_head().to(ingress::read_matching_events)),
        )
        .service(
            path("/v1/topics/{topic}", "GET, HEAD, DELETE")
                .route(get_or_head().to(ingress::read_topic))
                .route(delete().to(ingress::remove_value)),
        );
}

fn for_operators(services: &mut ServiceConfig, is_local: bool) {
    services
        .service(path("/v1/sessions/{id}", "DELETE").route(delete().to(admin::end_session)))
        .service(path("/v1/sessions", "GET, HEAD").route(get_or_head().to(admin::list_sessions)))
        .service(
            path("/v1/revocations", "GET, HEAD, POST")
                .route(get_or_head().to(admin::list_revocations))
                .route(post().to(admin::revoke)),
        )
        .service(path("/v1/commands", "POST").route(post().to(admin::command)))
        .service(
            path("/v1/topics/{topic}/rule", "GET, HEAD")
                .route(get_or_head().to(ingress::read_rule)),
        )
        .service(path("/v1/settings", "GET, HEAD").route(get_or_head().to(admin::read_settings)))
        .service(path("/v1/tokens/explain", "POST").route(post().to(admin::explain_token)))
        .service(path("/v1/users/{user}/sessions", "DELETE").route(delete().to(admin::end_user)))
        .service(path("/metrics", "GET, HEAD").route(get_or_head().to(admin::metrics)));
    for asset in &console::CONSOLE {
        let file = move |request: HttpRequest, auth| async move {
            console_file(asset, &request, is_local, &auth)
        };
        services.service(path(asset.path, "GET, HEAD").route(get_or_head().to(file)));
    }
}

/// Whether the console is served: to this machine, or where somebody may use it.
pub(super) fn has_console(is_local: bool, auth: &Auth) -> bool {
    is_local || auth.policy().has_operators()
}

/// A file of the console, which other machines see only where someone may use it.
fn console_file(
    asset: &'static Asset,
    request: &HttpRequest,
    is_local: bool,
    auth: &web::Data<Auth>,
) -> HttpResponse {
    if has_console(is_local, auth) {
        return asset.response(request.headers());
    }
    let detail = "the console is off on this address until there is an API key with admin rights";
    Problem::new(Code::NotFound, detail).error_response()
}

/// A path that refuses other methods by naming those it takes (RFC 9110, section 15.5.6).
fn path(path: &str, methods: &'static str) -> Resource {
    web::resource(path).default_service(web::to(move || async move {
        let detail = format!("this path takes {methods}");
        let mut response = Problem::new(Code::MethodNotAllowed, detail).error_response();
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
        response
    }))
}

/// `HEAD` is answered as `GET` is, and HTTP leaves the body out (RFC 9110, section 9.3.2).
fn get_or_head() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// What is answered where there is no route.
pub(super) async fn not_found() -> HttpResponse {
    Problem::new(Code::NotFound, "there is nothing at this path").error_response()
}

/// What is said to who asks for a WebSocket in HTTP/1.0: most often that is a proxy.
pub(super) fn without_upgrades() -> Problem {
    let detail = "a WebSocket begins within HTTP/1.1, and this request came as HTTP/1.0: a proxy must speak \
                  HTTP/1.1 and pass on Upgrade and Connection (nginx: proxy_http_version 1.1)";
    Problem::new(Code::UpgradeRequired, detail)
}

/// A WebSocket path asked for as any other: upgrade requests do not come here.
async fn without_upgrade(request: HttpRequest) -> HttpResponse {
    let mut head = request.head().clone();
    if head.method == Method::HEAD {
        head.method = Method::GET;
    }
    let problem = match require_handshake(&head) {
        _ if head.version < Version::HTTP_11 => without_upgrades(),
        Ok(()) => Problem::new(Code::BadRequest, "a WebSocket handshake has no body"),
        Err(problem) => problem,
    };
    problem.error_response()
}
