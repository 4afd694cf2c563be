//! The examples of the documents and of the manual pages, run as they stand.
//!
//! Each document is one test: README's preparation, then the document's blocks marked
//! `console`, in order, in one directory. The line of debootstrap, which needs a network, is
//! replaced by the testbed's Debian. A recipe or a Containerfile that begins with a comment of its
//! name is a file in that directory. `virtinitrd_vm_tests::console` describes how the output is compared.
//!
//! The examples of systemd are checked by systemd-analyze(1).

mod checkout;
mod manual;
mod units;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::unistd::geteuid;
use virtinitrd_vm_tests::console::{Block, Step, blocks};

use crate::documents::checkout::Checkout;
use crate::harness::trial::needs;
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("every_block_is_run_or_listed", every_block_is_run_or_listed),
    ("readme",                       |bed| examples_run(bed, "README.md")),
    ("running",                      |bed| examples_run(bed, "docs/running.md")),
    ("images",                       |bed| examples_run(bed, "docs/images.md")),
    ("oci",                          |bed| examples_run(bed, "docs/oci.md")),
    ("initrd",                       |bed| examples_run(bed, "docs/initrd.md")),
    ("configuration",                |bed| examples_run(bed, "docs/configuration.md")),
    ("recipes",                      |bed| examples_run(bed, "docs/recipes.md")),
    ("containerfiles",               |bed| examples_run(bed, "docs/containerfiles.md")),
    ("workloads",                    |bed| examples_run(bed, "docs/workloads.md")),
    ("manual_pages",                 manual::examples_run),
    ("units_have_no_fault",          units::units_have_no_fault),
    ("units_are_those_of_the_document", units::units_are_those_of_the_document),
];

/// Documents whose examples are run.
#[rustfmt::skip]
const RUN: &[&str] = &[
    "README.md", "docs/running.md", "docs/images.md", "docs/oci.md", "docs/initrd.md", "docs/configuration.md",
    "docs/recipes.md", "docs/containerfiles.md", "docs/workloads.md",
];

/// Blocks that are not run: the document, the first command, and the reason.
#[rustfmt::skip]
const NOT_RUN: &[(&str, &str, &str)] = &[
    ("README.md",            "make demo",                           "installs packages, and may download a kernel"),
    ("docs/running.md",      "scripts/chrootvm --doctor ./debian",  "describes one host; doctor.rs has other hosts"),
    ("docs/systemd.md",      "debootstrap --variant=minbase --include=systemd-sysv,dbus,libpam-systemd,login,linux-image-cloud-amd64 bookworm ./system", "installs packages that the testbed's Debian lacks"),
    ("docs/kernel.md",       "make -j8",                            "compiles a kernel for minutes"),
    ("docs/kernel.md",       "make modules_install INSTALL_MOD_PATH=\"$PWD/installed\"", "needs that kernel"),
    ("docs/kernel.md",       "chrootvm kernel config --check . >needed.config || scripts/kconfig/merge_config.sh .config needed.config", "needs that kernel"),
    ("docs/kernel.md",       "make kernel",                         "compiles a kernel for minutes"),
    ("docs/osbuild.md",      "make build",                          "installs into /usr"),
    ("docs/contributing.md", "make build",                          "builds the programs that this test runs"),
];

/// Document with the preparation of all examples, and the command that begins it.
const PREPARATION: (&str, &str) = ("README.md", "debootstrap ");

/// Tools of the host in the examples, and those of the test.
const TOOLS: &[&str] = &["bash", "curl", "unshare"];

/// Whether the examples can run: they are root's.
pub(crate) fn can_run() -> bool {
    geteuid().is_root()
}

fn first_command(block: &Block) -> &str {
    block.steps.first().map_or("", |step| &step.command)
}

/// Whether the block that begins with the command `first` is not run.
fn is_listed(document: &str, first: &str) -> bool {
    NOT_RUN.iter().any(|(of, command, _)| *of == document && *command == first)
}

fn blocks_of(bed: &Bed, document: &str) -> Result<Vec<Block>> {
    let text = fs::read_to_string(bed.workspace.join(document)).context(document.to_owned())?;
    Ok(blocks(&text))
}

/// A directory in which README's preparation was run.
fn prepared(bed: &Bed) -> Result<Checkout> {
    needs(TOOLS)?;
    let mut checkout = Checkout::new(bed)?;
    let (document, start) = PREPARATION;
    let blocks = blocks_of(bed, document)?;
    let preparation = blocks.iter().find(|block| first_command(block).starts_with(start));
    let steps = &preparation.context("README has no preparation")?.steps;
    ensure!(steps[0].command.ends_with(" ./debian"), "the preparation makes no ./debian");
    checkout.add_debian(bed)?;
    steps[1..].iter().try_for_each(|step| checkout.run(step))?;
    Ok(checkout)
}

/// The document's blocks run, and the terminal shows what the document says.
fn examples_run(bed: &Bed, document: &str) -> Result<()> {
    let mut checkout = prepared(bed)?;
    let text = fs::read_to_string(bed.workspace.join(document)).context(document.to_owned())?;
    let files = named_files(&text);
    for (name, rest) in &files {
        checkout.write(name, &format!("# {name}\n{rest}\n"))?;
    }
    if !files.is_empty() {
        // A step whose layer an earlier test has kept would not run.
        checkout.run(&Step::new("export XDG_CACHE_HOME=\"$PWD/cache\"", ""))?;
    }
    for block in blocks_of(bed, document)? {
        let first = first_command(&block);
        if is_listed(document, first) || first.starts_with(PREPARATION.1) {
            continue;
        }
        for step in &block.steps {
            checkout.run(step).with_context(|| format!("{document}, \"{}\"", block.heading))?;
        }
    }
    Ok(())
}

/// How a block of a file begins, and its second line: of a recipe and of a Containerfile.
const FILES: [(&str, &str); 2] =
    [("\n```toml\n# ", "version = "), ("\n```dockerfile\n# ", "FROM ")];

/// Recipes and Containerfiles of a document, and their file names: blocks whose first line is a
/// comment with the name.
fn named_files(markdown: &str) -> Vec<(&str, &str)> {
    let of_kind = |(fence, second): &(&'static str, &'static str)| {
        let blocks = markdown.split(*fence).skip(1);
        let named = blocks.filter_map(|rest| rest.split_once("\n```")?.0.split_once('\n'));
        let second = *second;
        named.filter(move |(_, text)| text.starts_with(second)).collect::<Vec<_>>()
    };
    FILES.iter().flat_map(of_kind).collect()
}

/// No block is forgotten, and the list of the blocks that are not run has no stale row.
fn every_block_is_run_or_listed(bed: &Bed) -> Result<()> {
    let pages = fs::read_dir(bed.workspace.join("docs"))?;
    let mut documents = vec!["README.md".to_owned()];
    for page in pages {
        let name = page?.file_name();
        let is_document = Path::new(&name).extension().is_some_and(|ending| ending == "md");
        documents.extend(is_document.then(|| format!("docs/{}", name.display())));
    }
    let mut listed = 0;
    for document in &documents {
        for block in blocks_of(bed, document)? {
            let first = first_command(&block);
            let is_run = RUN.contains(&&**document);
            listed += usize::from(is_listed(document, first));
            ensure!(
                is_run || is_listed(document, first),
                "{document}: no test runs the block of `{first}`"
            );
        }
    }
    ensure!(listed == NOT_RUN.len(), "NOT_RUN has rows of blocks that no document has");
    Ok(())
}
