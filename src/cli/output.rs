//! What is printed: answers on stdout, everything else on stderr.

use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{Attribute, Cell, Color, Table, presets};
use owo_colors::OwoColorize as _;
use prost_reflect::DynamicMessage;

use crate::cli::{
    failure::Failure,
    options::{Format, Options},
    render::{self, Shown, printable},
};

/// Where answers go, and in which form.
#[derive(Debug)]
pub(crate) struct Output {
    format: Format,
    quiet: bool,
    terminal: bool,
}

impl Output {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            format: options.output,
            quiet: options.quiet,
            terminal: io::stdout().is_terminal(),
        }
    }

    /// One answer.
    pub(crate) fn show<M: Shown>(&self, message: &M) -> Result<(), Failure> {
        let message = render::described(message)?;
        print(&self.record(&message)?)
    }

    /// The entries that the field `list` of an answer holds; what `columns` names first is their id.
    pub(crate) fn list<M: Shown>(
        &self,
        message: &M,
        list: &str,
        columns: &[&str],
    ) -> Result<(), Failure> {
        let message = render::described(message)?;
        print(&self.entries(&message, list, columns)?)
    }

    /// Entries of a list without end, each on one line. `columns` comes with the widths that align them on a terminal.
    pub(crate) fn stream<M: Shown>(
        &self,
        entries: &[M],
        columns: &[(&str, usize)],
    ) -> Result<(), Failure> {
        let mut text = String::new();
        for entry in entries {
            let entry = render::described(entry)?;
            text += &match self.format {
                Format::Json => render::json(&entry, false)?,
                Format::Table => self.aligned(&entry, columns),
            };
            text.push('\n');
        }
        print(&text)
    }

    /// A message as one line of JSON, whatever the format.
    pub(crate) fn json_line<M: Shown>(message: &M) -> Result<(), Failure> {
        print(&(render::json(&render::described(message)?, false)? + "\n"))
    }

    /// A text as it is, for example a script that completes commands.
    pub(crate) fn text(text: &str) -> Result<(), Failure> {
        print(text)
    }

    /// Tells what happened besides, unless asked to be quiet.
    pub(crate) fn notice(&self, text: &str) {
        if !self.quiet {
            complain(&printable(text));
        }
    }

    /// Tells where a list goes on, unless it has ended.
    pub(crate) fn more(&self, next_page_token: &str) {
        if !next_page_token.is_empty() {
            self.notice(&format!(
                "there are more; go on with --page-token {next_page_token}"
            ));
        }
    }

    /// Tells what needs attention.
    pub(crate) fn warning(&self, text: &str) {
        if !self.quiet {
            complain(&format!("{} {}", "warning:".yellow(), printable(text)));
        }
    }

    /// Tells why the process ends.
    pub(crate) fn failure(failure: &Failure) {
        if !failure.output_closed() {
            complain(&format!("{} {failure}", "error:".red()));
        }
    }

    fn record(&self, message: &DynamicMessage) -> Result<String, Failure> {
        if self.quiet {
            return Ok(lines(render::secrets(message)));
        }
        if self.format == Format::Json {
            return Ok(render::json(message, true)? + "\n");
        }
        let fields = render::fields(message);
        if !self.terminal {
            let plain = fields.into_iter().map(|(name, value)| name + "\t" + &value);
            return Ok(lines(plain));
        }
        let mut table = table();
        for (name, value) in fields {
            table.add_row([
                Cell::new(name).add_attribute(Attribute::Dim),
                coloured(value),
            ]);
        }
        Ok(table.trim_fmt() + "\n")
    }

    fn entries(
        &self,
        message: &DynamicMessage,
        list: &str,
        columns: &[&str],
    ) -> Result<String, Failure> {
        let rows = render::rows(message, list, columns);
        if self.quiet {
            return Ok(lines(
                rows.into_iter().filter_map(|row| row.into_iter().next()),
            ));
        }
        if self.format == Format::Json {
            return Ok(render::json(message, true)? + "\n");
        }
        if !self.terminal {
            return Ok(lines(rows.into_iter().map(|row| row.join("\t"))));
        }
        let mut table = table();
        table.set_header(columns.iter().map(|column| {
            Cell::new(column.replace('_', " ").to_uppercase()).add_attribute(Attribute::Bold)
        }));
        table.add_rows(rows.into_iter().map(|row| row.into_iter().map(coloured)));
        Ok(table.trim_fmt() + "\n")
    }

    fn aligned(&self, message: &DynamicMessage, columns: &[(&str, usize)]) -> String {
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let cells = render::row(message, &names);
        if !self.terminal {
            return cells.join("\t");
        }
        let padded: Vec<String> = cells
            .iter()
            .zip(columns)
            .map(|(cell, (_, width))| format!("{cell:<width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned()
    }
}

/// Without lines and without wrapping: an id or a secret must stay in one piece to be copied.
fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.force_no_tty().enforce_styling();
    table
}

fn coloured(text: String) -> Cell {
    let colour = match text.as_str() {
        "active" | "serving" | "true" => Some(Color::Green),
        "disabled" | "retiring" => Some(Color::Yellow),
        "revoked" | "expired" | "not-serving" => Some(Color::Red),
        _ => None,
    };
    let cell = Cell::new_owned(text);
    match colour {
        Some(colour) => cell.fg(colour),
        None => cell,
    }
}

fn lines(texts: impl IntoIterator<Item = String>) -> String {
    texts.into_iter().map(|text| text + "\n").collect()
}

/// Colours are taken out where stdout is no terminal, or where `NO_COLOR` asks for it.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = anstream::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::output(&error))
}

/// Where not even stderr takes a line, nobody is left to be told.
fn complain(line: &str) {
    writeln!(anstream::stderr(), "{line}").unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::render::tests::created, proto};

    fn output(format: Format, quiet: bool, terminal: bool) -> Output {
        Output {
            format,
            quiet,
            terminal,
        }
    }

    fn listed() -> DynamicMessage {
        let mut other = created().api_key.unwrap_or_default();
        other.display_name = "ci".to_owned();
        other.state = proto::ApiKeyState::Revoked.into();
        let answer = proto::ListApiKeysResponse {
            api_keys: created().api_key.into_iter().chain([other]).collect(),
            ..Default::default()
        };
        render::described(&answer).unwrap()
    }

    #[test]
    fn quiet_prints_the_secret_alone() {
        let message = render::described(&created()).unwrap();
        for format in [Format::Table, Format::Json] {
            let printed = output(format, true, true).record(&message).unwrap();
            assert_eq!(printed, "ta_XkQBXKr652MV1VF9_secret\n");
        }
        let printed = output(Format::Table, true, true)
            .entries(&listed(), "api_keys", &["api_key_id", "state"])
            .unwrap();
        assert_eq!(printed, "XkQBXKr652MV1VF9\nXkQBXKr652MV1VF9\n");
    }

    #[test]
    fn off_a_terminal_lists_are_plain_lines() {
        let printed = output(Format::Table, false, false)
            .entries(
                &listed(),
                "api_keys",
                &["api_key_id", "display_name", "state", "hint"],
            )
            .unwrap();
        assert_eq!(
            printed,
            "XkQBXKr652MV1VF9\tnightly\\tjob\\u{1b}[31m\tactive\t\nXkQBXKr652MV1VF9\tci\trevoked\t\n"
        );
    }

    #[test]
    fn on_a_terminal_lists_are_tables() {
        let printed = output(Format::Table, false, true)
            .entries(
                &listed(),
                "api_keys",
                &["api_key_id", "display_name", "state"],
            )
            .unwrap();
        let plain = anstream::adapter::strip_str(&printed).to_string();
        let lines: Vec<&str> = plain.lines().map(str::trim_end).collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        API KEY ID        DISPLAY NAME            STATE
        XkQBXKr652MV1VF9  nightly\tjob\u{1b}[31m  active
        XkQBXKr652MV1VF9  ci                      revoked
        ");
    }

    #[test]
    fn an_entry_of_a_stream_is_one_line() {
        let event = render::described(&proto::RevocationEvent {
            position: 12,
            kind: proto::RevocationKind::Revocation.into(),
            subject: Some(proto::RevocationSubject {
                subject: Some(proto::revocation_subject::Subject::UserId(
                    "usr_1".to_owned(),
                )),
            }),
            ..Default::default()
        })
        .unwrap();
        let columns = [
            ("position", 8),
            ("kind", 10),
            ("subject", 20),
            ("reason", 10),
        ];
        assert_eq!(
            output(Format::Table, false, false).aligned(&event, &columns),
            "12\trevocation\tuser_id=usr_1\t"
        );
        assert_eq!(
            output(Format::Table, false, true).aligned(&event, &columns),
            "12        revocation  user_id=usr_1"
        );
    }
}
