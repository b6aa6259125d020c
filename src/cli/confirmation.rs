//! Asking before something is ended for good.

use std::io::{self, BufRead, IsTerminal as _, Write};

use clap::Args;

use crate::cli::{
    failure::{Exit, Failure},
    render::printable,
};

/// Whether to ask. A script, whose stdin is no terminal, has made up its mind.
#[derive(Debug, Args)]
pub(crate) struct Confirmation {
    /// Do not ask on the terminal whether it is meant
    #[arg(short, long)]
    yes: bool,
}

impl Confirmation {
    /// Fails where somebody at a terminal does not say yes to `question`.
    pub(crate) fn ask(&self, question: &str) -> Result<(), Failure> {
        if self.yes || !io::stdin().is_terminal() {
            return Ok(());
        }
        ask(question, io::stdin().lock(), io::stderr().lock())
    }
}

fn ask(question: &str, mut answers: impl BufRead, mut terminal: impl Write) -> Result<(), Failure> {
    let mut answer = String::new();
    write!(terminal, "{} [y/N] ", printable(question))
        .and_then(|()| terminal.flush())
        .and_then(|()| answers.read_line(&mut answer))
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot ask: {error}")))?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new(Exit::Failed, "given up")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_yes_is_taken_for_yes() {
        for (answer, meant) in [
            ("y\n", true),
            ("Yes\r\n", true),
            ("\n", false),
            ("", false),
            ("no\n", false),
            ("yesterday\n", false),
        ] {
            let asked = ask("Delete it?", answer.as_bytes(), Vec::new());
            assert_eq!(asked.is_ok(), meant, "{answer:?}");
        }
    }

    #[test]
    fn a_name_in_the_question_does_not_steer_the_terminal() {
        let mut shown = Vec::new();
        ask("Delete \u{1b}[2J?", b"y\n".as_slice(), &mut shown).unwrap();
        assert_eq!(shown, br"Delete \u{1b}[2J? [y/N] ");
    }
}
