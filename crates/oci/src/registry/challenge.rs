//! Challenges: how a server wants to be shown who asks.
//!
//! Format: the header `WWW-Authenticate` (RFC 9110 §11.6.1): challenges after commas, each a
//! scheme and parameters, which are after commas too; `Bearer` as the token authentication of
//! the distribution project has it, `Basic` as in RFC 7617. The input is not trusted: what makes
//! no sense is left out.

/// Most challenges that are read of a header.
const CHALLENGES_MAX: usize = 16;

/// A challenge that can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// User name and password with each request.
    Basic,
    /// A token with each request.
    Bearer(Bearer),
}

/// Where to get a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bearer {
    /// Address of the token server.
    pub realm: String,
    /// Name of the registry at the token server.
    pub service: Option<String>,
    /// What the token has to permit.
    pub scope: Option<String>,
}

/// The challenges of one header that can be answered, in its order.
#[must_use]
pub fn parse(header: &str) -> Vec<Challenge> {
    let mut found: Vec<Scheme> = Vec::new();
    let mut rest = header;
    while found.len() <= CHALLENGES_MAX {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let (name, after) = token(rest);
        if name.is_empty() {
            // Neither a scheme nor a parameter begins here.
            match rest.find(',') {
                Some(comma) => rest = &rest[comma..],
                None => break,
            }
            continue;
        }
        match after.trim_start().strip_prefix('=') {
            Some(after) => {
                let (value, after) = value(after.trim_start());
                if let Some(scheme) = found.last_mut() {
                    scheme.parameters.push((name.to_ascii_lowercase(), value));
                }
                rest = after;
            }
            None => {
                found.push(Scheme { name: name.to_ascii_lowercase(), parameters: Vec::new() });
                rest = after;
            }
        }
    }
    found.into_iter().take(CHALLENGES_MAX).filter_map(Scheme::challenge).collect()
}

struct Scheme {
    name: String,
    parameters: Vec<(String, String)>,
}

impl Scheme {
    fn challenge(self) -> Option<Challenge> {
        let get = |name: &str| {
            let found = self.parameters.iter().find(|parameter| parameter.0 == name);
            found.map(|parameter| parameter.1.clone()).filter(|value| !value.is_empty())
        };
        match self.name.as_str() {
            "basic" => Some(Challenge::Basic),
            "bearer" => {
                let realm = get("realm")?;
                Some(Challenge::Bearer(Bearer {
                    realm,
                    service: get("service"),
                    scope: get("scope"),
                }))
            }
            _ => None,
        }
    }
}

/// The token at the start of `text` (RFC 9110 §5.6.2), and the rest.
fn token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c);
    text.split_at(text.find(|c| !is_token(c)).unwrap_or(text.len()))
}

/// The value at the start of `text`, quoted or not, and the rest.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: &str, scope: &str) -> Challenge {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Challenge::Bearer(Bearer {
            realm: realm.to_owned(),
            service: some(service),
            scope: some(scope),
        })
    }

    #[test]
    fn challenges_are_parsed() {
        for (header, expected) in [
            ("", vec![]),
            ("Basic", vec![Challenge::Basic]),
            ("basic realm=\"x\"", vec![Challenge::Basic]),
            (
                "Bearer realm=\"https://a.example/token\",service=\"r.example\",scope=\"repository:a/b:pull,push\"",
                vec![bearer("https://a.example/token", "r.example", "repository:a/b:pull,push")],
            ),
            (
                "Bearer realm=https://a.example/token , Service = \"a \\\"b\\\" \\\\\" ,scope=\"\"",
                vec![bearer("https://a.example/token", "a \"b\" \\", "")],
            ),
            (
                "Negotiate abc==, Basic realm=\"a, Bearer realm=b\", Bearer realm=\"r\"",
                vec![Challenge::Basic, bearer("r", "", "")],
            ),
            ("Bearer service=\"no realm\"", vec![]),
            ("realm=\"no scheme\", Basic", vec![Challenge::Basic]),
            ("Bearer realm=\"not closed", vec![bearer("not closed", "", "")]),
            ("=;, Basic", vec![Challenge::Basic]),
            ("Bearer realm=\"\\", vec![]),
        ] {
            assert_eq!(parse(header), expected, "{header}");
        }
    }

    #[test]
    fn the_number_of_challenges_is_limited() {
        assert_eq!(parse(&"Basic,".repeat(1000)).len(), CHALLENGES_MAX);
    }

    proptest! {
        #[test]
        fn any_header_is_parsed(header in "[a-zA-Z\"=,; \\\\é]{0,60}|\\PC{0,40}") {
            prop_assert!(parse(&header).len() <= CHALLENGES_MAX);
        }
    }
}
