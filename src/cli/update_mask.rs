//! Update masks: what was given on the command line is changed, and nothing else.

use prost_types::FieldMask;

use crate::cli::failure::Failure;

/// Names the fields that were given and those that are to be emptied. Refused where nothing was, and where one is both.
pub(crate) fn update_mask(
    given: &[(&'static str, bool)],
    cleared: impl IntoIterator<Item = &'static str>,
) -> Result<FieldMask, Failure> {
    let mut paths: Vec<String> = given
        .iter()
        .filter(|(_, given)| *given)
        .map(|(path, _)| (*path).to_owned())
        .collect();
    for path in cleared {
        if given.contains(&(path, true)) {
            return Err(Failure::usage(format!("{path} is both given and cleared")));
        }
        paths.push(path.to_owned());
    }
    if paths.is_empty() {
        return Err(Failure::usage("nothing to change was given; see --help"));
    }
    Ok(FieldMask { paths })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_what_was_given_and_what_is_cleared() {
        let mask = update_mask(&[("email", true), ("disabled", false)], ["display_name"]);
        assert_eq!(mask.unwrap().paths, ["email", "display_name"]);
    }

    #[test]
    fn a_change_of_nothing_and_a_contradiction_are_refused() {
        let nothing = update_mask(&[("email", false)], []).unwrap_err();
        assert!(nothing.to_string().starts_with("nothing to change"));
        let both = update_mask(&[("email", true)], ["email"]).unwrap_err();
        assert_eq!(both.to_string(), "email is both given and cleared");
    }
}
