//! The documents' tables of options, formats, statuses and kernel parameters against
//! the tests: each row has a test that runs what the row says.
//!
//! [`ROWS`] names the tests of each row. A test that boots a machine is
//! `GROUP::NAME`, of `tests/vm/cases/GROUP.rs`; one that does not is
//! `FILE.rs::FUNCTION`, of this directory. Every row of the documents is here, every
//! row here is in a document, every test exists, and some named test's file spells
//! each option and each parameter of the row.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Documents, and the first cells of the headings of their tables that are covered.
const TABLES: &[(&str, &[&str])] = &[
    ("README.md", &["FILE", "Directories", "Command", "Machine", "Diagnostics", "Status"]),
    ("docs/kernel-parameters.md", &["Kernel parameter"]),
];

/// Beginning of the first cell of each row, and the tests that run the row.
#[rustfmt::skip]
const ROWS: &[(&str, &[&str])] = &[
    // Formats, as a root; as a source and as what is made, `formats.rs` has all.
    ("`.erofs`", &["image::erofs_is_the_tree", "image::plain_erofs_is_it", "image::small_erofs_boots", "image::overlay_is_forgotten", "formats.rs::every_format_is_a_source_and_an_image"]),
    ("`.ext4`", &["image::ext4_is_the_tree", "image::sized_ext4_boots", "image::slack_ext4_boots", "image::rw_is_kept", "formats.rs::every_format_is_a_source_and_an_image"]),
    ("`.squashfs`", &["image::squashfs_is_the_tree", "image::zstd_squashfs_boots", "image::xz_squashfs_boots", "image::lz4_squashfs_boots", "formats.rs::every_format_is_a_source_and_an_image"]),
    ("`.cpio`", &["image::cpio_is_the_tree", "image::packed_cpio_is_it", "image::overlay_is_forgotten", "formats.rs::every_format_is_a_source_and_an_image"]),
    ("`.tar`", &["image::refused", "formats.rs::every_format_is_a_source_and_an_image"]),
    ("`NAME/`", &["formats.rs::a_slash_means_a_directory", "command::exit_1"]),
    // Directories.
    ("`--rw`", &["directories::rw_reaches_the_host"]),
    ("`--overlay", &["directories::overlay_is_forgotten", "options::short_forms"]),
    ("`--volume", &["directories::shares_appear", "command_run"]),
    ("`--data", &["image::data_is_a_disk"]),
    ("`--mount TAG", &["directories::shares_appear", "contract::mount_is_writable"]),
    ("`--mount-ro", &["directories::shares_appear", "contract::mount_ro_is_not"]),
    ("`--cache", &["options::cache_is_as_said"]),
    ("`--virtiofsd", &["options::programs_are_the_given_ones"]),
    // Command.
    ("`--env", &["arguments::nothing_else_is_passed_on"]),
    ("`--workdir", &["exec::has_its_own_streams", "arguments::name_directory_loopback"]),
    ("`--user", &["arguments::users_of_the_guest"]),
    ("`--tty`", &["directories::scratch_is_enough", "tty::none_is_wanted", "options::short_forms"]),
    ("`--timeout", &["command::timeout", "options::init_runs_out_of_time"]),
    ("`--name", &["exec::has_its_own_streams"]),
    // Machine.
    ("`--memory", &["command::out_of_memory", "options::short_forms", "fault::little_memory"]),
    ("`--cpus", &["options::machine_is_as_said", "options::short_forms"]),
    ("`--net", &["network::debian_has_a_network", "options::machine_is_as_said"]),
    ("`--publish", &["network::a_port_is_forwarded", "network::a_port_is_taken", "options::udp_is_forwarded"]),
    ("`--hostname", &["arguments::name_directory_loopback"]),
    ("`--kernel FILE", &["harness", "host::arguments_are_checked", "image::debian_has_its_kernel"]),
    ("`--pvh", &["pvh::default", "pvh::never"]),
    ("`--kernel-builtin`", &["chrootvm.rs::the_built_kernel_is_booted_without_modules"]),
    ("`--modules", &["harness", "image::debian_has_its_kernel"]),
    ("`--module NAME", &["modules::types_for_bpf_stay"]),
    ("`--strip", &["modules::auto_strips", "modules::never_strips", "modules::always_is_as_said"]),
    ("`--initrd", &["harness", "unprivileged::subordinate_ids_keep_owners"]),
    ("`--append", &["command::self_tests"]),
    ("`--accel", &["command::emulated_processor", "options::machine_is_as_said"]),
    ("`--machine", &["options::machine_is_as_said"]),
    ("`--qemu FILE", &["options::programs_are_the_given_ones"]),
    ("`--qemu-arg", &["command::timeout_of_a_boot"]),
    // Diagnostics.
    ("`--keep`", &["command_host::all_is_told"]),
    ("`--quiet`", &["unprivileged::warnings_can_be_silenced", "options::short_forms"]),
    ("`--verbose`", &["command_host::all_is_told"]),
    ("`--debug`", &["options::debug_shows_init"]),
    ("`--timing`", &["command_host::all_is_told"]),
    ("`--dry-run`", &["command_host::dry_run_can_be_pasted", "host::dry_run_can_be_pasted"]),
    ("`--doctor`", &["doctor.rs::chrootvm_asks_it"]),
    // Statuses, with COMMAND and with INIT.
    ("0", &["streams::input_has_an_end", "contract::default_boot", "options::keys_end_a_console"]),
    ("1–255", &["command::exit_1", "command::exit_255"]),
    ("128+N", &["command::signal_9", "command_kills::signals_reach_the_command", "tty::a_way_out", "host::sigterm_ends_it"]),
    ("127", &["command::not_found", "command::no_such_path"]),
    ("126", &["command::not_executable", "command::a_directory", "command::no_interpreter"]),
    ("125", &["command::bad_options_are_trouble", "command::power_off", "command::a_panic_is_shown", "command_kills::qemu_at_any_moment", "command_kills::virtiofsd_at_any_moment", "command_host::a_stuck_boot_begins_again", "host::arguments_are_checked", "fault::payload_exits"]),
    ("124", &["command::timeout", "command::timeout_of_a_boot", "options::init_runs_out_of_time"]),
    // Kernel parameters.
    ("`rootfs=TAG`", &["contract::rootfs_names_the_tag"]),
    ("`root=TAG`", &["contract::root_names_the_tag"]),
    ("`root=DEVICE`", &["roots::path", "roots::number", "roots::uuid", "roots::label", "roots::partuuid", "roots::partlabel"]),
    ("`rootfstype=", &["roots::path_erofs", "roots::uuid", "roots::btrfs_and_xfs"]),
    ("`rootflags=", &["roots::flags"]),
    ("`rootwait`", &["roots::late_disk_is_waited_for", "roots::wait_in_seconds"]),
    ("`rootdelay=", &["roots::delay"]),
    ("`root=initramfs`", &["image_runs::initramfs_is_the_root", "image_runs::initramfs_with_an_overlay"]),
    ("`ro`", &["contract::rw_root", "image_runs::initramfs_with_an_overlay"]),
    ("`virtinit.overlay", &["roots::overlay_erofs", "image_runs::pid_1_has_an_overlay"]),
    ("`mount=TAG`", &["fault::mount_tag_missing", "fault::mount_ro_tag_missing", "unwatched::late_tag_is_waited_for"]),
    ("`virtinit.mount=", &["roots::more_mounts", "image_runs::pid_1_of_an_image"]),
    ("`virtinit.etc=", &["roots::more_mounts", "options::etc_is_empty"]),
    ("`init=PATH`", &["contract::osbuild", "contract::default_payload_is_sh", "image_runs::run_file"]),
    ("`--`", &["contract::words_after_dashes"]),
    ("`debug`", &["contract::debug_is_shown_once"]),
    ("`virtinit.fail=", &["fault::policy_poweroff", "fault::policy_panic", "fault::policy_shell_without_shell", "fault::root_tag_missing"]),
    ("`virtinit.wait=", &["fault::root_tag_waited_for", "unwatched::late_tag_is_waited_for"]),
    ("`MODULE.PARAM=", &["contract::module_parameters"]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// First cells of the rows of all tables that are covered.
fn all_cells() -> Vec<String> {
    let of_document = |(document, tables): &(&str, &[&str])| {
        let text = fs::read_to_string(root().join(document)).unwrap();
        let (cells, headings) = cells(&text, tables);
        assert_eq!(&headings, tables, "tables of {document}");
        cells
    };
    TABLES.iter().flat_map(of_document).collect()
}

/// First cells of the rows of `tables`, and the headings that were found.
fn cells(text: &str, tables: &[&str]) -> (Vec<String>, Vec<String>) {
    let (mut cells, mut headings) = (Vec::new(), Vec::new());
    let mut is_covered = false;
    let mut before = "";
    for line in text.lines() {
        // A bar in a cell is escaped.
        let cell = line.strip_prefix("| ").map(|row| row.replace("\\|", "/"));
        let cell = cell.and_then(|row| Some(row.split_once(" |")?.0.to_owned()));
        match cell {
            None if line.starts_with("|---") => {}
            None => is_covered = false,
            Some(heading) if !before.starts_with('|') => {
                is_covered = tables.contains(&&*heading);
                headings.extend(is_covered.then_some(heading));
            }
            Some(cell) if is_covered => cells.push(cell),
            Some(_) => {}
        }
        before = line;
    }
    (cells, headings)
}

/// The file of a test, and the spelling of its name there.
fn place(test: &str) -> (PathBuf, String) {
    match test.split_once("::") {
        Some((file, function)) if Path::new(file).extension().is_some() => {
            (root().join("crates/chrootvm/tests").join(file), format!("\nfn {function}()"))
        }
        Some((group, name)) => {
            (root().join(format!("tests/vm/cases/{group}.rs")), format!("\"{name}\""))
        }
        // A file that every test uses.
        None => (root().join(format!("tests/vm/cases/{test}.rs")), String::new()),
    }
}

/// Options and parameters in a first cell, without their values.
fn words(cell: &str) -> Vec<String> {
    let quoted = cell.split('`').skip(1).step_by(2);
    let ends = |c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c);
    let mut words: Vec<_> =
        quoted.filter_map(|words| words.split(ends).next().map(str::to_owned)).collect();
    words.retain(|word| word.starts_with('-') || cell.contains(&format!("`{word}=")));
    // Stands for any.
    words.retain(|word| word != "MODULE.PARAM");
    words
}

#[test]
fn every_row_has_tests_that_run_it() {
    let cells = all_cells();
    let (mut used, mut problems) = (BTreeSet::new(), Vec::new());
    for cell in &cells {
        let row = ROWS.iter().filter(|(start, _)| cell.starts_with(start));
        // The longest: `--mount` is a beginning of `--mount-ro`.
        let row = row.max_by_key(|(start, _)| start.len());
        let Some((start, tests)) = row else {
            problems.push(format!("no test runs this row: {cell}"));
            continue;
        };
        used.insert(*start);
        let mut all = String::new();
        for test in *tests {
            let (file, name) = place(test);
            let text = fs::read_to_string(&file).unwrap_or_default();
            if text.is_empty() || !text.contains(&name) {
                problems.push(format!("{cell}: {test} is no test"));
            }
            all.push_str(&text);
        }
        let unused = words(cell).into_iter().filter(|word| !all.contains(word));
        problems.extend(unused.map(|word| format!("{cell}: none of {tests:?} gives {word}")));
    }
    let stale = ROWS.iter().filter(|(start, _)| !used.contains(start));
    problems
        .extend(stale.map(|(start, _)| format!("no document has a row that begins with {start}")));
    assert!(problems.is_empty(), "{problems:#?}");
}
