//! The page and the little it must know.
//!
//! Nothing of the samples passes through here: the page hears of them from the broker, as any page
//! of any application would.

use std::net::SocketAddr;

use actix_web::dev::Server;
use actix_web::http::header;
use actix_web::middleware::DefaultHeaders;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use fanfare::console::CLIENT;
use serde::Serialize;

/// What the page asks for before it begins.
#[derive(Debug, Clone, Serialize)]
pub struct Config {
    /// Where the broker is.
    http: String,
    /// The machine this program runs on, shown first.
    name: String,
    /// What the page identifies itself with, where the broker asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl Config {
    /// What the page must know of the broker at `url`, which begins with `http`.
    pub fn new(url: &str, name: &str, token: Option<String>) -> Self {
        Self { http: url.to_owned(), name: name.to_owned(), token }
    }
}

/// Begins to serve, and says where.
pub fn serve(listen: SocketAddr, config: Config) -> std::io::Result<(Server, SocketAddr)> {
    let policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' http: https: ws: wss:; \
                  img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let server = HttpServer::new(move || {
        let headers = DefaultHeaders::new()
            .add((header::CONTENT_SECURITY_POLICY, policy))
            .add((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .add((header::CACHE_CONTROL, "no-cache"));
        let app = App::new()
            .app_data(web::Data::new(config.clone()))
            .wrap(headers)
            .route("/", web::get().to(html))
            .route("/dashboard.css", web::get().to(css))
            .route("/dashboard.js", web::get().to(js))
            .route("/config.json", web::get().to(config_json));
        // The client, from here: a page that can't reach the broker can still say why.
        CLIENT.iter().fold(app, |app, module| {
            let file =
                move |request: HttpRequest| async move { module.response(request.headers()) };
            app.route(module.path, web::get().to(file))
        })
    })
    .workers(1)
    .bind(listen)?;
    let addr = server.addrs()[0];
    Ok((server.run(), addr))
}

async fn html() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .body(include_str!("page/index.html"))
}

async fn css() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/css; charset=utf-8")
        .body(include_str!("page/dashboard.css"))
}

async fn js() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/javascript; charset=utf-8")
        .body(include_str!("page/dashboard.js"))
}

async fn config_json(config: web::Data<Config>) -> web::Json<Config> {
    web::Json(config.get_ref().clone())
}
