//! What clients say over requests beside their connection, in languages that have that.

use actix_web::{HttpRequest, HttpResponse, web};

use crate::body::Sending;
use crate::broker::{BrokerHandle, Overhear, Overheard};
use crate::config::Limits;
use crate::http::Query;
use crate::model::{Code, Problem};
use crate::protocol::{Letter, Token};

/// `POST` of a way back: 204 as soon as the session is about to hear it, on whatever node that is. It asks for no credential
/// beside the secret of the session, and what it may do is for the session to say.
pub async fn overhear(
    sending: Sending,
    request: HttpRequest,
    broker: web::Data<BrokerHandle>,
    limits: web::Data<Limits>,
    read: fn(&[u8]) -> Result<Letter, Problem>,
) -> Result<HttpResponse, Problem> {
    Query::parse(request.query_string(), &[])?;
    let (body, _) = sending.json(limits.message_bytes, "limits.message_bytes").await?;
    let Letter { session, secret: Token(secret), message } = read(&body)?;
    let overheard = broker.overhear(Overhear { session, secret, message }).await?;
    match overheard.all {
        Overheard::Heard => Ok(HttpResponse::NoContent().finish()),
        Overheard::Busy => {
            let detail = "too much waits to be heard by the session; try again";
            Err(Problem::new(Code::TooMany, detail))
        }
        Overheard::Nobody => {
            overheard.whole()?;
            Err(Problem::new(Code::NotFound, "there is no session that knows this secret"))
        }
    }
}
