//! `fanfare man`: the manual, a page a command, made of the same words as `--help`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory, ValueHint};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::exit_codes::ExitCodes;
use super::print::draw;
use super::{Cli, Failure};

const EXAMPLES: &str = "\
Examples:
  fanfare man | man -l -                          read the first page
  fanfare man /usr/local/share/man/man1           write all pages: fanfare.1, fanfare-publish.1, ...

`scripts/install` writes them where man looks for them.";

/// What `man` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Write a page for each command into this directory, which is made if it is not there; without it, the page of
    /// `fanfare` alone is printed
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    directory: Option<PathBuf>,
}

/// Prints the first page of the manual, or writes all of them.
pub fn run(args: Args) -> Result<(), Failure> {
    // There is no page for `help`, which shows what these say.
    let mut cli = Cli::command().disable_help_subcommand(true);
    cli.build();
    let codes = ExitCodes::of_command("serve");
    let Some(directory) = args.directory else {
        let page = page(&cli, codes).map_err(Failure::failed)?;
        return draw(&String::from_utf8_lossy(&page));
    };
    let write = || {
        fs::create_dir_all(&directory)?;
        write_all(&cli, codes, &directory)
    };
    write().map_err(|error| Failure::Failed(format!("{}: {error}", directory.display())))
}

/// Writes the page of a command, and those of the commands beneath it, which end as it does unless they are told of.
fn write_all(command: &Command, codes: Option<&ExitCodes>, directory: &Path) -> io::Result<()> {
    fs::write(directory.join(Man::new(command.clone()).get_filename()), page(command, codes)?)?;
    let mut beneath = command.get_subcommands();
    beneath.try_for_each(|command| {
        let codes = ExitCodes::of_command(command.get_name()).or(codes);
        write_all(command, codes, directory)
    })
}

/// A page of the manual. What stands behind the options has sections that `clap_mangen` does not know.
fn page(command: &Command, codes: Option<&ExitCodes>) -> io::Result<Vec<u8>> {
    let source = concat!("Fanfare ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).source(source).manual("Fanfare");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    behind_options(command, codes).to_writer(&mut page)?;
    page.flush()?;
    Ok(page)
}

fn behind_options(command: &Command, codes: Option<&ExitCodes>) -> Roff {
    let mut roff = Roff::new();
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let mut section = "";
    for paragraph in help.split("\n\n") {
        let (name, text) = match paragraph.strip_prefix("Examples:\n") {
            Some(examples) => ("EXAMPLES", examples),
            None => ("NOTES", paragraph),
        };
        if text.is_empty() {
            continue;
        }
        match name == section {
            true => roff.control("PP", []),
            false => roff.control("SH", [name]),
        };
        section = name;
        // Examples keep their lines, other paragraphs are filled.
        if name == "EXAMPLES" {
            roff.control("nf", []);
        }
        text.lines().for_each(|line| _ = roff.text([roman(line)]));
        if name == "EXAMPLES" {
            roff.control("fi", []);
        }
    }
    if let Some(codes) = codes {
        roff.control("SH", ["EXIT STATUS"]);
        for (code, meaning) in codes.meanings.iter().enumerate() {
            roff.control("TP", []).text([roman(code.to_string())]).text([roman(*meaning)]);
        }
    }
    roff
}
