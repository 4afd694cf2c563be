//! Modes of files: `auto`, or permission bits as chmod(1) takes them in octal.

use crate::model::Mode;

/// Parses a mode, such as `auto`, `755` or `0755`.
pub fn parse_mode(text: &str) -> Result<Mode, String> {
    const FORM: &str = "give auto or a mode in octal, such as 0644 or 4755";
    /// Most permission bits: set-user-ID, set-group-ID, sticky, and three times `rwx`.
    const MOST: u16 = 0o7777;
    if text == "auto" {
        return Ok(Mode::Auto);
    }
    // One digit or two are a slip: a mode has a digit for the owner, the group and the others.
    let is_octal =
        (3..=5).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let bits = u16::from_str_radix(text, 8).ok().filter(|bits| is_octal && *bits <= MOST);
    bits.map(Mode::Fixed).ok_or_else(|| FORM.to_owned())
}

/// Writes a mode that [`parse_mode`] reads.
#[must_use]
pub fn show_mode(mode: Mode) -> String {
    match mode {
        Mode::Auto => "auto".to_owned(),
        Mode::Fixed(bits) => format!("{bits:04o}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal() {
        for (text, mode, shown) in [
            ("auto", Mode::Auto, "auto"),
            ("644", Mode::Fixed(0o644), "0644"),
            ("0755", Mode::Fixed(0o755), "0755"),
            ("4755", Mode::Fixed(0o4755), "4755"),
            ("000", Mode::Fixed(0), "0000"),
        ] {
            assert_eq!(parse_mode(text), Ok(mode), "{text}");
            assert_eq!(show_mode(mode), shown);
        }
        for bad in ["", "7", "77", "888", "0o755", "-755", "+755", "10000", "000644", "u+x", "Auto"]
        {
            assert!(parse_mode(bad).is_err(), "{bad}");
        }
    }
}
