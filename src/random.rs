//! The operating system's randomness: the only place that draws it.

use zeroize::Zeroizing;

use crate::error::{Error, Result};

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// `N` random bytes. INTERNAL where the machine has none to give: then nothing is issued.
pub fn bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|error| Error::internal("the machine gives no randomness").because(error))?;
    Ok(bytes)
}

/// `length` random letters and digits, each as likely as any other.
pub fn base62(length: usize) -> Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(length));
    while text.len() < length {
        let drawn = Zeroizing::new(bytes::<32>()?);
        push_base62(&mut text, &*drawn, length);
    }
    Ok(text)
}

/// Appends to `text`, up to `length` characters, what `drawn` gives: a byte beyond the last full round of 62 is passed over,
/// so that no character comes more often.
pub fn push_base62(text: &mut String, drawn: &[u8], length: usize) {
    let room = length.saturating_sub(text.len());
    text.extend(
        drawn
            .iter()
            .filter(|byte| **byte < 248)
            .take(room)
            .map(|byte| char::from(BASE62[usize::from(byte % 62)])),
    );
}
