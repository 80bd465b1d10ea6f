//! `fanfare completion`: what a shell needs to complete the command line.

use clap_complete::{Shell, generate};

use super::print::draw;
use super::{Failure, command};

const EXAMPLES: &str = "\
Examples:
  fanfare completion bash > /etc/bash_completion.d/fanfare
  fanfare completion zsh > /usr/local/share/zsh/site-functions/_fanfare
  fanfare completion fish > ~/.config/fish/completions/fanfare.fish
  source <(fanfare completion bash)               for this shell alone

`scripts/install` puts it where bash, zsh and fish look for it.";

/// What `completion` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// For which shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints what the shell is to read.
pub fn run(args: Args) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(args.shell, &mut command(), "fanfare", &mut script);
    draw(&String::from_utf8_lossy(&script))
}
