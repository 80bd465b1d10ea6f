//! The forms of values that are one of a few fixed words.

use super::log::LogFormat;
use super::rules::Who;
use super::server::ProxyHeaders;
use super::value::Value;

/// A form whose values are a few fixed words.
macro_rules! words {
    ($type:ty: $form:literal { $($word:literal = $value:path),+ $(,)? }) => {
        impl Value for $type {
            const WORD: &'static str = $form;
            const FORM: &'static str = $form;

            fn from_text(text: &str) -> Option<Self> {
                match text {
                    $($word => Some($value),)+
                    _ => None,
                }
            }

            fn to_toml(&self) -> Option<String> {
                Some(match self { $($value => format!("{:?}", $word)),+ })
            }
        }
    };
}

/// Where events are to be kept, as far as one can say it: whether it fits the rest is checked later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// In memory.
    Memory,
    /// Nowhere.
    None,
    /// On disk.
    Disk,
    /// In Redis.
    Redis,
}

words!(Medium: r#""disk", "memory", "redis" or "none""# {
    "disk" = Medium::Disk,
    "memory" = Medium::Memory,
    "none" = Medium::None,
    "redis" = Medium::Redis,
});

words!(Who: r#""anyone", "own", "token" or "nobody""# {
    "anyone" = Who::Anyone,
    "own" = Who::Own,
    "token" = Who::Token,
    "nobody" = Who::Nobody,
});

words!(ProxyHeaders: r#""x-forwarded" or "forwarded""# {
    "x-forwarded" = ProxyHeaders::XForwarded,
    "forwarded" = ProxyHeaders::Forwarded,
});

words!(LogFormat: r#""text" or "json""# {
    "text" = LogFormat::Text,
    "json" = LogFormat::Json,
});
