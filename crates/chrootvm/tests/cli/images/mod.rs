//! `chrootvm image`, run as users run it: what it prints, what it leaves, and how it fails.
//!
//! | Module | Content |
//! |---|---|
//! | `bench` | a directory to work in, and the program |
//! | `layout` | OCI images made by hand |
//! | `server` | a registry on loopback |
//! | `registry` | images of that registry |
//! | `sources` | every form of naming an OCI image, with every subcommand |
//! | `facts` | `inspect` and `layers` |
//! | `workload` | the config of an image as the run file |
//! | `oci_output` | images of OCI as results |
//! | `errors` | what goes wrong with OCI images |
//! | `mkfs` | btrfs, xfs and vfat, which programs of the distribution make |
//! | `recipes_convert` | files of other tools as recipes |
//! | `recipes_pack`, `recipes_unpack` | recipes and their files as archives |
//! | `edits` | `--exclude`, `--inject` and the summary |
//! | `recipes` | `image build` of recipes |
//! | `containerfiles` | `image build` of Containerfiles |

mod bench;
mod containerfiles;
mod edits;
mod errors;
mod facts;
mod layout;
mod mkfs;
mod oci_output;
mod recipes;
mod recipes_convert;
mod recipes_pack;
mod recipes_unpack;
mod registry;
mod server;
mod sources;
mod workload;
