//! What the exit code of each command means: one table, which the help, the man pages and `docs/operating.md` show.

use clap::Command;

/// What the exit codes of a command say.
#[derive(Debug)]
pub struct ExitCodes {
    /// Which command.
    pub command: &'static str,
    /// What 0, 1 and 2 mean, in this order.
    pub meanings: [&'static str; 3],
}

/// Those of every command; what runs without one is `serve`.
pub const EXIT_CODES: &[ExitCodes] = &[
    ExitCodes::of(
        "serve",
        "stopped, as a signal asked",
        "could not start; failed or panicked while it ran; ended at once by a further signal",
    )
    .or_configuration(),
    ExitCodes::of("check", "nothing is wrong", "with --url: something is wrong").or_configuration(),
    ExitCodes::of(
        "health",
        "the broker is alive, or with --ready: able to do its job",
        "it is not, or does not answer in time",
    )
    .or_configuration(),
    ExitCodes::of("backup", "the copy is there, and was checked", "there is no copy")
        .or_configuration(),
    ExitCodes::of(
        "token",
        "made; explain: the token is taken",
        "not made; explain: the token is refused",
    )
    .or_configuration(),
    ExitCodes::of(
        "publish",
        "all is published",
        "something was not, or it is not known whether it was",
    ),
    ExitCodes::of(
        "subscribe",
        "as many events came as were asked for, or a signal",
        "refused, for good",
    ),
    ExitCodes::of("history", "all that was asked for is printed", "refused, or not reached"),
    ExitCodes::of(
        "top",
        "a signal; with --once: all nodes are ready",
        "refused, or not reached; with --once: a node is not ready",
    ),
    ExitCodes::of("bench", "measured, and nothing was lost", "not measured, or something was lost"),
    ExitCodes::of("completion", "printed", "could not be written"),
    ExitCodes::of("man", "printed, or written", "could not be written"),
];

impl ExitCodes {
    const fn of(command: &'static str, done: &'static str, failed: &'static str) -> Self {
        Self { command, meanings: [done, failed, "wrong usage"] }
    }

    const fn or_configuration(self) -> Self {
        let Self { command, meanings: [done, failed, _] } = self;
        Self { command, meanings: [done, failed, "wrong usage or configuration"] }
    }

    /// Those of a command, if it is one.
    pub fn of_command(name: &str) -> Option<&'static Self> {
        EXIT_CODES.iter().find(|codes| codes.command == name)
    }

    /// A command whose help says them too.
    pub fn told_by(&self, command: Command) -> Command {
        let [done, failed, usage] = self.meanings;
        let before = command.get_after_help().map(|text| format!("{text}\n\n")).unwrap_or_default();
        command.after_help(format!("{before}Exit codes: 0: {done}. 1: {failed}. 2: {usage}."))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Cli;
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_command_has_its_exit_codes() {
        let cli = Cli::command();
        let commands: Vec<_> = cli.get_subcommands().map(Command::get_name).collect();
        let told: Vec<_> = EXIT_CODES.iter().map(|codes| codes.command).collect();
        assert_eq!(told, commands);
    }

    #[test]
    fn the_table_in_the_docs_is_this_one() {
        let docs = include_str!("../../docs/operating.md");
        let rows = docs.lines().skip_while(|line| *line != "| command | 0 | 1 | 2 |").skip(2);
        let rows: Vec<_> = rows.take_while(|line| line.starts_with('|')).collect();
        let expected =
            EXIT_CODES.iter().map(|ExitCodes { command, meanings: [done, failed, usage] }| {
                format!("| `{command}` | {done} | {failed} | {usage} |")
            });
        assert_eq!(rows, expected.collect::<Vec<_>>());
    }
}
