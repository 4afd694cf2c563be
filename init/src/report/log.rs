//! `log::error!`, `log::warn!` and `log::debug!`, with the arguments of `format!`.
//!
//! The macros of the crate `log` would keep file, line and module of each call in the program,
//! more than 100 bytes, which no message shows.

macro_rules! log_error {
    ($($message:tt)+) => {
        $crate::report::logger::log($crate::report::logger::Level::Error, format_args!($($message)+))
    };
}

macro_rules! log_warn {
    ($($message:tt)+) => {
        $crate::report::logger::log($crate::report::logger::Level::Warn, format_args!($($message)+))
    };
}

macro_rules! log_debug {
    ($($message:tt)+) => {
        $crate::report::logger::log($crate::report::logger::Level::Debug, format_args!($($message)+))
    };
}

pub(crate) use {log_debug as debug, log_error as error, log_warn as warn};
