//! Keeps the newest warnings and errors for who looks at the broker instead of its log.

use std::fmt::{Debug, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::metrics::TROUBLES;

/// Notes what is logged as a warning or an error.
#[derive(Debug, Clone, Copy)]
pub struct NoteTroubles;

impl<S: Subscriber> Layer<S> for NoteTroubles {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            _ => return,
        };
        let mut said = Said::default();
        event.record(&mut said);
        TROUBLES.note(level, &format!("{}{}", said.message, said.fields));
    }
}

/// What a line says, as the log has it: the message and the fields behind it.
#[derive(Default)]
struct Said {
    message: String,
    fields: String,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing into a String can't fail.
        _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
