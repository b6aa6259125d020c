//! Passwords: what may be chosen as one, and the one form in which both the chosen and the presented are hashed.
//!
//! That form is NFC (RFC 8265 section 4.2): "é" typed as one character or as two is the same password. Compatibility forms
//! stay apart: the ligature "ﬁ" is not "fi". Nothing is trimmed and nothing is cut off.

use std::fmt;

use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

use crate::{
    domain::ids::Username,
    error::{Error, Result},
};

/// The longest password, in bytes of its normal form.
const MAX_BYTES: usize = 1024;

/// The longest text that is normalised at all. Decomposed, a password may be longer than it counts.
const MAX_RAW_BYTES: usize = 4 * MAX_BYTES;

/// Fewest and most characters of a chosen password.
const MIN_CHARACTERS: usize = 15;
const MAX_CHARACTERS: usize = 256;

/// A shorter name is in too many good passwords to be looked for.
const MIN_NAME_LENGTH: usize = 3;

/// Passwords and beginnings of passwords that are tried first, in lower case, one a line.
const COMMON: &str = include_str!("common_passwords.txt");

/// A password in its normal form. Wiped when dropped.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes what somebody presents in order to sign in: anything, even nothing, since only a hash can say whether it is the
    /// right one. `INVALID_ARGUMENT` about `field` over 1024 bytes.
    pub fn presented(text: String, field: &str) -> Result<Self> {
        let text = Zeroizing::new(text);
        if text.len() > MAX_RAW_BYTES {
            return Err(too_long(field));
        }
        // At full size from the start, since a string that grows leaves a copy behind; NFC grows at most threefold.
        let mut normal = Zeroizing::new(String::with_capacity(3 * text.len()));
        normal.extend(text.nfc());
        if normal.len() > MAX_BYTES {
            return Err(too_long(field));
        }
        Ok(Self(normal))
    }

    /// Takes what somebody wants as the password of `username`. `INVALID_ARGUMENT` about `field` where it has not 15 to 256
    /// characters, contains the username, or is one of those that are tried first.
    pub fn chosen(text: String, username: &Username, field: &str) -> Result<Self> {
        let password = Self::presented(text, field)?;
        password.require_choosable(username, field)?;
        Ok(password)
    }

    /// The same of one that was presented already.
    pub fn require_choosable(&self, username: &Username, field: &str) -> Result<()> {
        let characters = self.0.chars().count();
        if !(MIN_CHARACTERS..=MAX_CHARACTERS).contains(&characters) {
            return Err(Error::field(field, "must have 15 to 256 characters"));
        }
        let folded = Zeroizing::new(self.0.to_lowercase());
        let name = username.as_str();
        if name.len() >= MIN_NAME_LENGTH && folded.contains(name) {
            return Err(Error::field(field, "must not contain the username"));
        }
        if is_common(&folded) {
            return Err(Error::field(field, "is too common, choose another one"));
        }
        Ok(())
    }

    /// What is hashed.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

fn too_long(field: &str) -> Error {
    Error::field(field, "must have at most 1024 bytes")
}

/// Whether a password in lower case is on the list, perhaps with digits and signs around it, or follows a plain pattern.
fn is_common(folded: &str) -> bool {
    let stripped = folded.trim_matches(|end: char| !end.is_alphabetic());
    let listed = COMMON
        .lines()
        .any(|common| common == folded || common == stripped);
    listed || is_repetition(folded) || is_repetition(stripped) || is_sequence(folded)
}

/// A word of up to 10 characters over and over, perhaps cut off at the end.
fn is_repetition(text: &str) -> bool {
    let characters = Zeroizing::new(text.chars().collect::<Vec<char>>());
    let longest = 10.min(characters.len() / 2);
    (1..=longest).any(|period| {
        let (front, back) = (&characters[..], &characters[period..]);
        front.iter().zip(back).all(|(one, next)| one == next)
    })
}

/// Characters one after the other, up or down, with 0 after 9 and a after z.
fn is_sequence(text: &str) -> bool {
    let steps = |step: fn(u32) -> u32| {
        let codes = text.chars().map(u32::from);
        codes
            .clone()
            .zip(codes.skip(1))
            .all(|(one, next)| step(one) == next)
    };
    let up = |code| match char::from_u32(code) {
        Some('9') => u32::from('0'),
        Some('z') => u32::from('a'),
        Some(_) | None => code + 1,
    };
    let down = |code: u32| match char::from_u32(code) {
        Some('0') => u32::from('9'),
        Some('a') => u32::from('z'),
        Some(_) | None => code.wrapping_sub(1),
    };
    steps(up) || steps(down)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(text: &str) -> Result<Password> {
        Password::chosen(text.to_owned(), &Username::known("alice"), "password")
    }

    fn presented(text: &str) -> Password {
        Password::presented(text.to_owned(), "password").unwrap()
    }

    #[test]
    fn length_is_counted_in_characters_and_bytes() {
        let varied = |count: usize| -> String {
            let letters = "correct horse battery staple, ".chars().cycle();
            letters
                .zip('\u{100}'..)
                .take(count / 2)
                .flat_map(|(a, b)| [a, b])
                .collect()
        };
        assert!(chosen("fourteen chars").is_err());
        assert!(chosen("fifteen chars! ").is_ok());
        assert!(chosen(&varied(256)).is_ok());
        assert!(chosen(&varied(258)).is_err());
        let wide: String = ('\u{1f300}'..).step_by(3).take(256).collect();
        assert_eq!(wide.len(), 1024);
        assert!(chosen(&wide).is_ok());
        // The same word in accents that NFD writes apart is longer, and still the same.
        let decomposed: String = ('\u{1e00}'..)
            .step_by(2)
            .take(200)
            .flat_map(|c| [c].into_iter().nfd())
            .collect();
        assert!(decomposed.chars().count() > 256);
        assert!(chosen(&decomposed).is_ok());
    }

    #[test]
    fn presenting_one_over_1024_bytes_is_an_invalid_argument() {
        assert!(Password::presented("a".repeat(1024), "f").is_ok());
        for length in [1025, 4096, 4097, 1 << 20] {
            let error = Password::presented("a".repeat(length), "f").unwrap_err();
            assert_eq!(error.violations()[0].field, "f");
        }
    }

    #[test]
    fn l02_nothing_nul_and_white_space_are_passwords_like_any() {
        for text in ["", "\0", " ", "\n\t"] {
            assert_eq!(presented(text).as_bytes(), text.as_bytes());
        }
    }

    #[test]
    fn l04_nothing_is_cut_off() {
        let (one, other) = ("x".repeat(127) + "a", "x".repeat(127) + "b");
        assert_ne!(presented(&one).as_bytes(), presented(&other).as_bytes());
    }

    #[test]
    fn l05_both_spellings_of_an_accent_are_one_and_a_ligature_is_another() {
        assert_eq!(
            presented("e\u{301}clair").as_bytes(),
            presented("\u{e9}clair").as_bytes()
        );
        assert_ne!(presented("\u{fb01}").as_bytes(), presented("fi").as_bytes());
    }

    #[test]
    fn l19_common_ones_and_those_with_the_username_are_refused() {
        let refused = [
            "passwordpassword",
            "PasswordPassword",
            "passwordpassword123!",
            "Password1Password1",
            "123456789012345",
            "098765432109876",
            "111111111111111",
            "abcdefghijklmnopq",
            "zyxwvutsrqponmlk",
            "abcabcabcabcabc",
            "qwertyuiopasdfgh",
            "1qaz2wsx3edc4rfv",
            "correcthorsebatterystaple",
            "i am alice and well",
            "XXAliceXX 8492 kjh",
        ];
        for text in refused {
            assert!(chosen(text).is_err(), "{text}");
        }
        for text in ["kalt wie Schnee im Mai", "t8Zq-hu2m-Lw0x-9bVc"] {
            assert!(chosen(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_name_of_two_letters_is_not_looked_for() {
        let text = "kalt wie Schnee im Mai".to_owned();
        assert!(Password::chosen(text, &Username::known("im"), "password").is_ok());
    }

    #[test]
    fn the_list_is_in_the_form_it_is_compared_in() {
        let mut count = 0;
        for line in COMMON.lines() {
            assert_eq!(line, line.trim().to_lowercase());
            assert!(line.chars().count() >= 10, "{line}");
            count += 1;
        }
        assert!(count >= 100, "{count}");
    }

    #[test]
    fn debug_shows_no_password() {
        assert_eq!(format!("{:?}", presented("hunter2")), "Password");
    }
}
