//! Variables in scope: the environment of the image, and arguments.

use std::collections::HashMap;

use super::config::DEFAULT_PATH;
use super::expand::Lookup;
use super::model::Arguments;

/// Most bytes of names and values of all variables of a stage. The kernel refuses one variable
/// that is longer (`MAX_ARG_STRLEN`, 32 pages).
const VARIABLES_MAX: usize = 128 << 10;

/// Arguments about proxies, in upper case: they may be given without an ARG, and are no part of
/// the key of a cache (Dockerfile reference, predefined ARGs).
const PROXIES: &[&str] = &["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// Arguments about platforms without `BUILD` or `TARGET` before them.
const PLATFORM_PARTS: &[&str] = &["PLATFORM", "OS", "OSVERSION", "ARCH", "VARIANT"];

/// Starts and names of other arguments that engines understand themselves.
const OTHERS: &[&str] = &["BUILDKIT_", "SOURCE_DATE_EPOCH", "TARGETSTAGE"];

/// Names and values in the order in which the names came first.
#[derive(Clone, Debug, Default)]
pub(super) struct Variables {
    list: Vec<(String, String)>,
    index: HashMap<String, usize>,
    bytes: usize,
}

impl Variables {
    /// Variables of `list`.
    pub(super) fn new(list: &[(String, String)]) -> Self {
        let mut variables = Self::default();
        for (name, value) in list {
            variables.put(name, value);
        }
        variables
    }

    /// Sets a variable.
    ///
    /// # Errors
    /// The variables take too much space.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        self.put(name, value);
        if self.bytes > VARIABLES_MAX {
            let most = VARIABLES_MAX >> 10;
            return Err(format!("the variables take more than {most} KiB: shorten them"));
        }
        Ok(())
    }

    fn put(&mut self, name: &str, value: &str) {
        self.bytes += value.len();
        let place = self.index.get(name).and_then(|at| self.list.get_mut(*at));
        if let Some((_, old)) = place {
            self.bytes -= old.len();
            value.clone_into(old);
            return;
        }
        self.bytes += name.len();
        self.index.insert(name.to_owned(), self.list.len());
        self.list.push((name.to_owned(), value.to_owned()));
    }

    /// Names and values.
    pub(super) fn list(&self) -> &[(String, String)] {
        &self.list
    }

    /// Bytes of all names and values.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Lookup for Variables {
    fn get(&self, name: &str) -> Option<&str> {
        let at = self.index.get(name)?;
        self.list.get(*at).map(|(_, value)| &**value)
    }
}

/// Variables of a stage.
#[derive(Debug)]
pub(super) struct Scope {
    /// Environment of the image.
    pub(super) env: Variables,
    /// Arguments that ARG has declared.
    pub(super) arguments: Variables,
}

/// The environment hides arguments of the same name (Dockerfile reference, ARG).
impl Lookup for Scope {
    fn get(&self, name: &str) -> Option<&str> {
        self.env.get(name).or_else(|| self.arguments.get(name))
    }
}

impl Scope {
    /// Environment of a command, and the names in it that do not count for the key of a cache.
    pub(super) fn command(&self, arguments: &Arguments) -> (Vec<(String, String)>, Vec<String>) {
        let mut env = self.env.list().to_vec();
        let declared = self.arguments.list().iter();
        env.extend(declared.filter(|(name, _)| self.env.get(name).is_none()).cloned());
        if self.get("PATH").is_none() {
            env.push(("PATH".to_owned(), DEFAULT_PATH.to_owned()));
        }
        let mut hidden = Vec::new();
        for proxy in PROXIES {
            let mut given = arguments.given.iter();
            let Some((_, value)) = given.find(|(name, _)| name.eq_ignore_ascii_case(proxy)) else {
                continue;
            };
            // Programs look for one spelling or the other.
            for name in [(*proxy).to_owned(), proxy.to_ascii_lowercase()] {
                if self.get(&name).is_none() {
                    let own = arguments.given.get(&name);
                    env.push((name.clone(), own.unwrap_or(value).clone()));
                    hidden.push(name);
                }
            }
        }
        (env, hidden)
    }
}

/// Whether an argument may be given though no ARG declares it.
pub(super) fn is_predefined(name: &str) -> bool {
    let is_platform = |name: &str| {
        let part = name.strip_prefix("BUILD").or_else(|| name.strip_prefix("TARGET"));
        part.is_some_and(|part| PLATFORM_PARTS.contains(&part))
    };
    PROXIES.iter().any(|proxy| proxy.eq_ignore_ascii_case(name))
        || is_platform(name)
        || OTHERS.iter().any(|other| name.starts_with(other))
}

/// Predefined arguments about platforms; a given argument wins.
pub(super) fn platforms(arguments: &Arguments) -> Variables {
    let mut variables = Variables::default();
    let platforms = [("BUILD", &arguments.build_platform), ("TARGET", &arguments.target_platform)];
    for (start, platform) in platforms {
        let mut words = platform.splitn(3, '/');
        let mut word = || words.next().unwrap_or_default();
        let (os, architecture, variant) = (word(), word(), word());
        // Versions are those of Windows.
        let values = [&**platform, os, "", architecture, variant];
        for (part, value) in PLATFORM_PARTS.iter().zip(values) {
            let name = format!("{start}{part}");
            let value = arguments.given.get(&name).map_or(value, |given| given);
            variables.put(&name, value);
        }
    }
    variables
}
