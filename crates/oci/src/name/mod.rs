//! Names of images and of their parts.
//!
//! | Module | Contents |
//! |---|---|
//! | [`digest`] | names of blobs by their contents |
//! | [`mod@reference`] | names of images in registries |
//! | [`platform`] | names of operating systems and architectures |
//! | [`location`] | names of images wherever they are: `oci:REF`, `oci-layout:DIR`, ... |

pub mod digest;
pub mod location;
pub mod platform;
pub mod reference;
