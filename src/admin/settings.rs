//! The configuration in force, and where each value comes from.

use std::sync::{Arc, RwLock};
use std::time::SystemTime;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::json;

use crate::auth::Access;
use crate::http::Query;
use crate::model::{Problem, Timestamp};
use crate::panics::{read, write};

/// What is told of the configuration, which may be read again while the broker serves.
#[derive(Debug, Default)]
pub struct Settings(RwLock<Arc<Told>>);

/// What is told of one configuration.
#[derive(Debug)]
pub struct Told {
    /// Each setting, in the order of the reference.
    pub settings: Vec<Line>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<String>,
    /// What is not in force before a restart.
    pub needs_restart: Vec<String>,
    /// When it was read.
    pub since: Timestamp,
}

/// One setting.
#[derive(Debug, Serialize)]
pub struct Line {
    /// Its section and key.
    pub key: String,
    /// Its value as TOML, secrets blotted out; none where it is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Where it was set; none where it is the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// What it means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<&'static str>,
}

impl Default for Told {
    fn default() -> Self {
        let since = Timestamp::from(SystemTime::now());
        Self { settings: Vec::new(), warnings: Vec::new(), needs_restart: Vec::new(), since }
    }
}

impl Settings {
    /// Tells another configuration from here on.
    pub fn replace(&self, told: Told) {
        *write(&self.0) = Arc::new(told);
    }
}

/// `GET /v1/settings`: the configuration in force.
pub async fn read_settings(
    access: Access,
    request: HttpRequest,
    settings: web::Data<Settings>,
) -> Result<HttpResponse, Problem> {
    Query::parse(request.query_string(), &[])?;
    access.require_admin()?;
    let told = read(&settings.0).clone();
    let no_store = (header::CACHE_CONTROL, "no-store");
    Ok(HttpResponse::Ok().insert_header(no_store).json(json!({
        "settings": told.settings,
        "warnings": told.warnings,
        "needs_restart": told.needs_restart,
        "since": told.since.to_string(),
    })))
}
