//! What of the settings may be seen: everything but the secrets.

use std::fmt::Write as _;

use serde_json::Value;

use super::Settings;

impl Settings {
    /// The settings as TOML, secrets masked; those that are not set are left out.
    pub fn show(&self) -> String {
        let mut text = String::new();
        let Ok(Value::Object(root)) = serde_json::to_value(self) else {
            return text;
        };
        let (tables, values): (Vec<_>, Vec<_>) =
            root.iter().partition(|(_, value)| value.is_object());
        for (key, value) in values {
            write_pair(&mut text, key, value);
        }
        for (name, table) in tables {
            let mut pairs = String::new();
            for (key, value) in table.as_object().into_iter().flatten() {
                write_pair(&mut pairs, key, value);
            }
            let _infallible = write!(text, "\n[{name}]\n{pairs}");
        }
        text
    }
}

/// Texts, numbers, truth values and lists are written alike in JSON and TOML.
fn write_pair(text: &mut String, key: &str, value: &Value) {
    if !value.is_null() {
        let _infallible = writeln!(text, "{key} = {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_loaded_and_holds_no_secret() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("shown.toml");
        std::fs::write(&file, Settings::default().show()).unwrap();
        let again = Settings::load(Some(&file), [], []).unwrap();
        assert_eq!(again.show(), Settings::default().show());

        let variables = [
            ("TOKEN_AUTHORITY_MASTER_KEY", "bWFzdGVy"),
            ("TOKEN_AUTHORITY_DATABASE_URL", "postgres://u:hunter2@db/ta"),
        ];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        let shown = Settings::load(None, variables, []).unwrap().show();
        assert!(
            shown.contains("url = \"postgres://u:[hidden]@db/ta\""),
            "{shown}"
        );
        assert!(!shown.contains("bWFzdGVy") && !shown.contains("hunter2"));
    }
}
