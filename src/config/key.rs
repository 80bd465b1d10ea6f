//! A key of the configuration: its name, its form, its meaning, and how it is set and shown.
//!
//! The macros turn a struct with its defaults into such keys, so that each key is written once, in the
//! schema.

use super::value::Given;

/// What is known of one key of `T`.
#[derive(Debug)]
pub struct Key<T> {
    /// The section it stands in.
    pub section: &'static str,
    /// Its name there.
    pub name: &'static str,
    /// What it means, in one or two sentences.
    pub doc: &'static str,
    /// Its form in a word or two.
    pub word: &'static str,
    /// Its form for an error.
    pub form: &'static str,
    /// Whether its value must never be shown.
    pub secret: bool,
    /// Sets it to what was given, or answers `None` where that does not have its form.
    pub set: fn(&mut T, Given<'_>) -> Option<()>,
    /// Its value as TOML, secrets blotted out; `None` where it is not set.
    pub show: fn(&T) -> Option<String>,
    /// Whether it has the same value in both.
    pub same: fn(&T, &T) -> bool,
}

impl<T> Key<T> {
    /// The name with its section, as in errors and on the command line.
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// The name of its environment variable.
    pub fn env(&self) -> String {
        format!("FANFARE_{}_{}", self.section, self.name).to_ascii_uppercase()
    }
}

impl<T: Default> Key<T> {
    /// The default as TOML; `None` where there is none.
    pub fn default(&self) -> Option<String> {
        (self.show)(&T::default())
    }
}

/// One entry of a table of keys.
macro_rules! key {
    ($root:ident, $section:expr, [$name:expr], [$($field:ident).+], $type:ty, [$($doc:literal)+]) => {
        Key::<$root> {
            section: $section,
            name: $name,
            doc: concat!($($doc),+),
            word: <$type as Value>::WORD,
            form: <$type as Value>::FORM,
            secret: <$type as Value>::SECRET,
            set: |root, given| given.read().map(|value: $type| root.$($field).+ = value),
            show: |root| root.$($field).+.to_toml(),
            same: |one, other| one.$($field).+ == other.$($field).+,
        }
    };
}

/// A struct whose fields are keys, with its defaults.
macro_rules! typed {
    ($about:literal $name:ident { $([$($doc:literal)+] $key:ident: $type:ty = $default:expr;)+ }) => {
        #[doc = $about]
        #[derive(Debug, Clone)]
        pub struct $name { $($(#[doc = $doc])+ pub $key: $type,)+ }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)+ }
            }
        }
    };
}

/// The sections: a struct each, `Typed` of them all and of what may come many times, and the tables
/// `SECTIONS` and `KEYS`.
macro_rules! sections {
    ($(
        #[doc = $about:literal]
        $section:ident: $name:ident {
            $($(#[doc = $doc:literal])+ $key:ident: $type:ty = $default:expr;)+
        }
    )+ [$($(#[doc = $list_doc:literal])+ $list:ident: $entry:ident;)+]) => {
        $(typed! { $about $name { $([$($doc)+] $key: $type = $default;)+ } })+

        /// All that can be typed.
        #[derive(Debug, Clone, Default)]
        pub struct Typed {
            $(#[doc = $about] pub $section: $name,)+
            $($(#[doc = $list_doc])+ pub $list: Vec<$entry>,)+
        }

        /// The sections and what they are about, in the order of the example.
        pub const SECTIONS: &[(&str, &str)] = &[$((stringify!($section), $about)),+];

        /// Every key of every section, in the order of the example.
        pub const KEYS: &[Key<Typed>] = &[$($(
            key!(Typed, stringify!($section), [stringify!($key)], [$section.$key], $type, [$($doc)+]),
        )+)+];
    };
}

/// The keys of an entry that may come many times, each with its name: `match` can't be the name of a
/// field.
macro_rules! entry {
    (
        $about:literal $section:literal $type:ident $keys:ident:
        $($(#[doc = $doc:literal])+ $key:ident ($name:literal): $form:ty = $default:expr;)+
    ) => {
        typed! { $about $type { $([$($doc)+] $key: $form = $default;)+ } }

        /// Every key of such an entry, in the order of the reference.
        pub const $keys: &[Key<$type>] = &[$(
            key!($type, $section, [$name], [$key], $form, [$($doc)+]),
        )+];
    };
}

pub(super) use {entry, key, sections, typed};
