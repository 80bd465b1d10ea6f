//! `fanfare check`: what the broker would be configured with, and where each setting comes from.

use super::{Failure, note, open_files, print};
use crate::config::{Sources, load_with_origins};

/// Prints the settings that differ from their defaults, and warns of what is probably not meant.
pub fn run(sources: &Sources) -> Result<(), Failure> {
    let loaded = load_with_origins(sources)?;
    match &sources.file {
        Some(path) => print(format_args!("configuration file: {}", path.display()))?,
        None => print("configuration file: none")?,
    }
    if loaded.settings.is_empty() {
        print("every key is at its default")?;
    }
    for setting in &loaded.settings {
        print(format_args!("{} = {}  ({})", setting.key, setting.value, setting.origin))?;
    }
    let open_files = open_files::make_room(loaded.config.limits.connections);
    for warning in loaded.warnings.iter().chain(&open_files) {
        note(format_args!("warning: {warning}"));
    }
    print("the configuration is good")
}
