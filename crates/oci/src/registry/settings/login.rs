//! What a user shows to a registry: a name with a password, or a token. Their secrets are never
//! part of `Debug` output or of messages.

use std::fmt;

/// Name and password of a user.
#[derive(Clone, PartialEq, Eq)]
pub struct UserPassword {
    /// The name.
    pub user: String,
    /// The password, or an access token in its place.
    pub password: String,
}

impl fmt::Debug for UserPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserPassword").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What proves to a registry who the user is.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// Name and password.
    Password(UserPassword),
    /// A token that the token server exchanges for others (OAuth 2.0's refresh token). Credential
    /// helpers mark it by the user name `<token>`.
    IdentityToken(String),
    /// A token that the registry itself takes.
    RegistryToken(String),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password(_) => "Password",
            Self::IdentityToken(_) => "IdentityToken",
            Self::RegistryToken(_) => "RegistryToken",
        })
    }
}
