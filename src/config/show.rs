//! What of the settings may be seen: everything but the secrets.

use std::fmt::Write as _;

use serde_json::Value;

use super::Settings;

impl Settings {
    /// The settings as TOML, secrets masked; those that are not set are comments.
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
    let _infallible = match value {
        Value::Null => writeln!(text, "# {key} = \"\""),
        set => writeln!(text, "{key} = {set}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_shown_and_what_is_not_set_as_a_comment_that_can_be_uncommented() {
        let shown = Settings::default().show();
        for path in crate::config::key_paths() {
            let key = path.rsplit('.').next().unwrap();
            let line = shown
                .lines()
                .map(|line| line.trim_start_matches("# "))
                .find(|line| line.starts_with(&format!("{key} = ")));
            assert!(line.is_some(), "{path}: {shown}");
        }
        assert!(shown.contains("\n# url_file = \"\"\n"), "{shown}");
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("shown.toml");
        std::fs::write(&file, shown.replace("# ", "")).unwrap();
        let again = Settings::load(Some(&file), [], []).unwrap();
        assert_eq!(again.show(), Settings::default().show());
    }

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
