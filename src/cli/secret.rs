//! Where passwords and tokens come from: a terminal, stdin, a file or a variable, never an argument.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use crate::cli::{
    failure::{Exit, Failure},
    render::printable,
};

/// No secret is longer; a file that is was named by mistake.
const MAX_BYTES: u64 = 16 * 1024;

/// Where a password is read from.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct PasswordSource {
    /// Read the password from stdin
    #[arg(long = "password-stdin")]
    stdin: bool,
    /// Read the password from this file, `-` for stdin
    #[arg(long = "password-file", value_name = "FILE")]
    file: Option<PathBuf>,
    /// Read the password from the environment variable of this name
    #[arg(long = "password-variable", value_name = "NAME")]
    variable: Option<String>,
}

impl PasswordSource {
    /// Reads the password; asks on the terminal, without echo, where nothing else was said.
    pub(crate) fn read(&self, username: &str) -> Result<SecretString, Failure> {
        match self.given()? {
            Some(password) => Ok(password),
            None => ask(&format!("Password of {username}: ")),
        }
    }

    /// Reads a new password of one's own; asks on the terminal, twice, where nothing else was said.
    pub(crate) fn read_new(&self) -> Result<SecretString, Failure> {
        match self.given()? {
            Some(password) => Ok(password),
            None => ask_twice("New password: "),
        }
    }

    fn given(&self) -> Result<Option<SecretString>, Failure> {
        if let Some(path) = &self.file {
            return from_file(path).map(Some);
        }
        if let Some(name) = &self.variable {
            return from_variable(name).map(Some);
        }
        if self.stdin {
            return from_reader(io::stdin().lock(), Path::new("stdin")).map(Some);
        }
        Ok(None)
    }

    /// Whether anything was said.
    pub(crate) fn is_given(&self) -> bool {
        self.stdin || self.file.is_some() || self.variable.is_some()
    }
}

/// Where a user's new password is read from, if it is to have one that somebody chose.
#[derive(Debug, Args)]
pub(crate) struct NewPassword {
    #[command(flatten)]
    source: PasswordSource,
    /// Ask for the password on the terminal, twice
    #[arg(long, conflicts_with = "PasswordSource")]
    ask_password: bool,
}

impl NewPassword {
    /// Reads the password; none where nothing was said.
    pub(crate) fn read(&self, username: &str) -> Result<Option<SecretString>, Failure> {
        if self.ask_password {
            return ask_twice(&format!("New password of {username}: ")).map(Some);
        }
        self.source.given()
    }
}

/// Where the password is read from that is to be replaced.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct CurrentPassword {
    /// Read the current password from this file, `-` for stdin
    #[arg(long, value_name = "FILE")]
    current_password_file: Option<PathBuf>,
    /// Read the current password from the environment variable of this name
    #[arg(long, value_name = "NAME")]
    current_password_variable: Option<String>,
}

impl CurrentPassword {
    /// Reads the password; asks on the terminal, without echo, where nothing else was said.
    pub(crate) fn read(&self) -> Result<SecretString, Failure> {
        if let Some(path) = &self.current_password_file {
            return from_file(path);
        }
        match &self.current_password_variable {
            Some(name) => from_variable(name),
            None => ask("Current password: "),
        }
    }
}

fn ask(prompt: &str) -> Result<SecretString, Failure> {
    let password =
        rpassword::prompt_password(printable(prompt)).map_err(|error| not_asked(&error))?;
    not_empty(password.into(), Path::new("the terminal"))
}

/// What is typed unseen is typed twice: nobody could sign in with a slip of the finger.
fn ask_twice(prompt: &str) -> Result<SecretString, Failure> {
    let password = ask(prompt)?;
    let again = ask("The same again: ")?;
    if password.expose_secret() != again.expose_secret() {
        return Err(Failure::new(Exit::Failed, "the two passwords differ"));
    }
    Ok(password)
}

fn not_asked(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::Interrupted {
        return Failure::new(Exit::Failed, "given up");
    }
    Failure::usage(format!(
        "no terminal to ask for the password on ({error}): see --help for where else it can be read from"
    ))
}

/// Which token a verb is about.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct TokenSource {
    /// The token or API key that stdin holds
    #[arg(long)]
    stdin: bool,
    /// The token or API key that this file holds, `-` for stdin
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The caller's own: of --token-file, `TOKEN_AUTHORITY_TOKEN`, or the stored login
    #[arg(long)]
    own: bool,
}

impl TokenSource {
    /// The token; none where it is the caller's own.
    pub(crate) fn read(&self) -> Result<Option<SecretString>, Failure> {
        if let Some(path) = &self.file {
            return from_file(path).map(Some);
        }
        if self.stdin {
            return from_reader(io::stdin().lock(), Path::new("stdin")).map(Some);
        }
        Ok(None)
    }
}

/// Reads a secret from a file, or from stdin where the file is called `-`. One line end at its end is not part of it.
pub(crate) fn from_file(path: &Path) -> Result<SecretString, Failure> {
    if path == Path::new("-") {
        return from_reader(io::stdin().lock(), Path::new("stdin"));
    }
    let file = File::open(path).map_err(|error| Failure::file(path, &error))?;
    from_reader(file, path)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the command line names the variable, and the secret must not be on it"
)]
fn from_variable(name: &str) -> Result<SecretString, Failure> {
    let secret = std::env::var(name).map_err(|_| {
        let message = format!("the variable {name} is not set, or is no text");
        Failure::usage(message)
    })?;
    not_empty(secret.into(), Path::new(name))
}

fn from_reader(reader: impl Read, name: &Path) -> Result<SecretString, Failure> {
    let mut text = Zeroizing::new(String::new());
    reader
        .take(MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| Failure::file(name, &error))?;
    if text.len() as u64 > MAX_BYTES {
        let message = format!("{}: too long for a secret", name.display());
        return Err(Failure::usage(message));
    }
    let secret = text.strip_suffix('\n').unwrap_or(&text);
    let secret = secret.strip_suffix('\r').unwrap_or(secret);
    not_empty(secret.into(), name)
}

fn not_empty(secret: SecretString, name: &Path) -> Result<SecretString, Failure> {
    if secret.expose_secret().is_empty() {
        let message = format!("{}: nothing was given", name.display());
        return Err(Failure::usage(message));
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        from_reader(text.as_bytes(), Path::new("f"))
            .map(|secret| secret.expose_secret().to_owned())
            .map_err(|failure| failure.to_string())
    }

    #[test]
    fn one_line_end_is_not_part_of_a_secret() {
        assert_eq!(read("a b \n"), Ok("a b ".to_owned()));
        assert_eq!(read("ab\r\n"), Ok("ab".to_owned()));
        assert_eq!(read("ab\n\n"), Ok("ab\n".to_owned()));
    }

    #[test]
    fn nothing_and_too_much_are_no_secrets() {
        assert_eq!(read("\n"), Err("f: nothing was given".to_owned()));
        assert_eq!(
            read(&"x".repeat(20_000)),
            Err("f: too long for a secret".to_owned())
        );
    }
}
