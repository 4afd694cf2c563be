//! The documents' tables of options, formats, statuses and kernel parameters against
//! the tests: each row has a test that runs what the row says.
//!
//! [`ROWS`] names the tests of each row. A test that boots a machine is
//! `GROUP::NAME`, of `GROUP.rs` in a room of `tests/vm/cases`; one that does not is
//! `FILE.rs::FUNCTION`, of `crates/chrootvm/tests/cli`. Every row of the documents is here,
//! every row here is in a document, every test exists, and some named test's file spells
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
    ("`.erofs`", &["image::erofs_holds_the_tree", "image::uncompressed_erofs_holds_the_tree", "image::small_erofs_boots", "image::overlay_is_discarded", "formats.rs::every_format_is_a_source_and_an_image"]),
    ("`.ext4`", &["image::ext4_holds_the_tree", "image::sized_ext4_boots", "image::slack_ext4_boots", "image::rw_changes_the_image", "formats.rs::every_format_is_a_source_and_an_image"]),
    ("`.squashfs`", &["image::squashfs_holds_the_tree", "image::zstd_squashfs_boots", "image::xz_squashfs_boots", "image::lz4_squashfs_boots", "formats.rs::every_format_is_a_source_and_an_image"]),
    ("`.btrfs`", &["image::btrfs_boots", "image::xfs_boots", "images/mkfs.rs::every_format_passes_its_checker", "images/mkfs.rs::vfat_has_files_and_says_what_it_lacks"]),
    ("`.cpio`", &["image::cpio_holds_the_tree", "image::zstd_cpio_holds_the_tree", "image::overlay_is_discarded", "formats.rs::every_format_is_a_source_and_an_image"]),
    ("`.tar`", &["image::bad_roots_are_refused", "formats.rs::every_format_is_a_source_and_an_image"]),
    ("`NAME/`", &["formats.rs::a_slash_means_a_directory", "command::exit_1"]),
    // Directories.
    ("`--rw`", &["directories::rw_reaches_the_host"]),
    ("`--overlay", &["directories::overlay_is_discarded", "options::short_forms"]),
    ("`--volume", &["directories::volumes_and_tags_appear", "command_run", "directories::files_are_volumes"]),
    ("`--data", &["image::data_is_a_disk"]),
    ("`--mount TAG", &["directories::volumes_and_tags_appear", "contract::mount_is_writable", "contract::mount_ro_is_read_only"]),
    ("`--cache", &["options::cache_mode_reaches_virtiofsd"]),
    ("`--virtiofsd", &["options::given_programs_are_run"]),
    // Command.
    ("`--env", &["arguments::only_given_variables_arrive"]),
    ("`--workdir", &["exec::command_has_its_own_streams", "arguments::hostname_workdir_and_loopback", "arguments::user_names_are_the_roots"]),
    ("`--tty`", &["directories::one_static_program_is_enough", "tty::no_tty_leaves_signals_to_the_host", "options::short_forms"]),
    ("`--no-stdin`", &["arguments::no_stdin_leaves_the_input_alone"]),
    ("`--logs", &["logs::output_goes_to_files", "logs::files_are_rotated_and_followed"]),
    ("`--restart", &["supervised::options_win_over_the_image", "supervised::command_is_supervised_by_options"]),
    ("`--stop-signal", &["supervised::health_and_its_end_are_options", "supervision::an_order_ends_a_pause"]),
    ("`--health-cmd", &["supervised::health_and_its_end_are_options", "supervised::options_win_over_the_image"]),
    ("`--timeout", &["command::timeout", "options::timeout_without_a_command"]),
    ("`--name", &["exec::command_has_its_own_streams"]),
    ("`--detach", &["detach::machine_outlives_its_starter", "detach::command_is_not_healthy", "machines/detach.rs::a_machine_ends_with_the_chrootvm_that_waits_for_it"]),
    // Machine.
    ("`--memory", &["command::out_of_memory", "options::short_forms", "fault::little_memory"]),
    ("`--cpus", &["options::machine_options_reach_the_guest", "options::short_forms"]),
    ("`--net", &["network::debian_has_a_network", "options::machine_options_reach_the_guest"]),
    ("`--entrypoint", &["oci::words_and_options_win_over_the_config"]),
    ("`--publish-all", &["oci::exposed_ports_are_published", "command_line.rs::options_of_images_are_not_for_directories"]),
    ("`--publish", &["network::port_is_forwarded", "network::taken_port_is_an_error", "options::udp_is_forwarded"]),
    ("`--hostname", &["arguments::hostname_workdir_and_loopback"]),
    ("`--kernel FILE", &["machine", "host::arguments_are_checked", "image::debian_image_brings_its_kernel", "kernel_tree::modules_come_from_the_tree", "modules.rs::a_kernel_tree_brings_its_modules"]),
    ("`--pvh", &["pvh::default", "pvh::never", "chrootvm.rs::the_built_kernel_is_booted_without_modules"]),
    ("`--modules", &["machine", "image::debian_image_brings_its_kernel"]),
    ("`--module NAME", &["modules::auto_keeps_bpf_types"]),
    ("`--strip", &["modules::auto_removes_signatures", "modules::never_keeps_signatures", "modules::always_removes_needed_signatures"]),
    ("`--initrd", &["machine", "unprivileged::subordinate_ids_keep_owners"]),
    ("`--warm", &["answers::commands_end_the_same", "twins::clones_differ", "damage::damaged_templates_are_replaced", "refusals::never_is_cold", "refusals::options_of_other_machines"]),
    ("`--append", &["command::self_tests"]),
    ("`--arch", &["foreign::an_image_starts_warm", "foreign::the_root_tells_the_architecture", "command::emulated_processor", "options::machine_options_reach_the_guest"]),
    ("`--machine", &["options::machine_options_reach_the_guest", "options::given_programs_are_run", "command::timeout_of_a_boot"]),
    // Diagnostics.
    ("`--keep`", &["command_host::keep_verbose_and_timing_report"]),
    ("`--report FILE`", &["report::endings_are_reported", "report::signal_is_reported", "report::lost_report_is_an_error", "report.rs::a_run_that_fails_before_its_machine_is_reported", "report.rs::a_file_that_cannot_be_written_is_an_error"]),
    ("`--no-config`", &["config.rs::options_win_over_the_files"]),
    ("`--quiet`", &["unprivileged::quiet_leaves_errors_only", "options::short_forms"]),
    ("`--verbose`", &["command_host::keep_verbose_and_timing_report"]),
    ("`--debug`", &["options::debug_shows_init"]),
    ("`--timing`", &["command_host::keep_verbose_and_timing_report"]),
    ("`--dry-run`", &["command_host::dry_run_can_be_pasted", "host::dry_run_can_be_pasted"]),
    ("`--doctor`", &["doctor.rs::a_root_adds_its_kernels"]),
    // Statuses, with COMMAND and with INIT.
    ("0", &["streams::closed_input_ends", "contract::default_boot", "options::ctrl_a_x_ends_the_machine", "console::init_succeeds", "console::sigterm_presses_the_power_button"]),
    ("1–255", &["command::exit_1", "command::exit_255"]),
    ("128+N", &["command::signal_9", "command_kills::signals_reach_the_command", "tty::escape_ends_the_command", "host::sigterm_ends_chrootvm", "console::second_signal_ends_a_deaf_guest"]),
    ("127", &["command::not_found", "command::no_such_path"]),
    ("126", &["command::not_executable", "command::a_directory", "command::no_interpreter"]),
    ("125", &["command::bad_options_exit_with_125", "command::power_off", "command::kernel_panic_is_shown", "command_kills::qemu_killed_at_any_moment", "command_kills::virtiofsd_killed_at_any_moment", "command_host::stuck_boot_is_started_again", "host::arguments_are_checked", "fault::payload_exits", "console::init_fails"]),
    ("124", &["command::timeout", "command::timeout_of_a_boot", "options::timeout_without_a_command"]),
    // Kernel parameters.
    ("`rootfs=TAG`", &["contract::rootfs_names_the_tag"]),
    ("`root=TAG`", &["contract::root_names_the_tag"]),
    ("`root=DEVICE`", &["roots::path", "roots::number", "roots::uuid", "roots::label", "roots::partuuid", "roots::partlabel"]),
    ("`rootfstype=", &["roots::path_erofs", "roots::uuid", "roots::btrfs_and_xfs_are_found"]),
    ("`rootflags=", &["roots::flags"]),
    ("`rootwait`", &["roots::late_disk_is_waited_for", "roots::wait_in_seconds"]),
    ("`rootdelay=", &["roots::delay"]),
    ("`root=initramfs`", &["image_runs::initramfs_is_the_root", "image_runs::initramfs_with_an_overlay"]),
    ("`ro`", &["contract::rw_makes_the_root_writable", "image_runs::initramfs_with_an_overlay"]),
    ("`virtinit.overlay", &["roots::overlay_erofs", "image_runs::pid_1_mounts_an_overlay"]),
    ("`mount=TAG`", &["fault::mount_tag_missing", "fault::mount_ro_tag_missing", "unwatched::late_tag_is_waited_for"]),
    ("`virtinit.mount=", &["roots::mounts_beside_the_root", "image_runs::pid_1_mounts_beside_an_image"]),
    ("`virtinit.etc=", &["roots::mounts_beside_the_root", "options::etc_tmpfs_hides_etc"]),
    ("`init=PATH`", &["contract::osbuild_boots", "contract::default_payload_is_sh", "image_runs::run_file_restarts_a_command"]),
    ("`--`", &["contract::words_after_dashes"]),
    ("`debug`", &["contract::debug_is_shown_once"]),
    ("`virtinit.fail=", &["fault::policy_poweroff", "fault::policy_panic", "fault::policy_shell_without_shell", "fault::root_tag_missing"]),
    ("`virtinit.wait=", &["fault::root_tag_waited_for", "unwatched::late_tag_is_waited_for"]),
    ("`virtinit.orders`", &["answers::commands_end_the_same", "twins::clones_differ"]),
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
            (root().join("crates/chrootvm/tests/cli").join(file), format!("\nfn {function}()"))
        }
        Some((group, name)) => (in_a_room(group), format!("\"{name}\"")),
        // A file of the harness, which every test uses.
        None => (in_a_room(test), String::new()),
    }
}

/// The file of a group of tests: `GROUP.rs` in one of the rooms of `tests/vm/cases`.
fn in_a_room(group: &str) -> PathBuf {
    let rooms = fs::read_dir(root().join("tests/vm/cases")).unwrap();
    let files = rooms.map(|room| room.unwrap().path().join(format!("{group}.rs")));
    files.into_iter().find(|file| file.exists()).unwrap_or_default()
}

/// Options and parameters in a first cell, without their values.
fn words(cell: &str) -> Vec<String> {
    let quoted = cell.split('`').skip(1).step_by(2);
    let ends = |c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c);
    let mut words: Vec<_> =
        quoted.filter_map(|words| words.split(ends).next().map(str::to_owned)).collect();
    words.retain(|word| word.starts_with('-') || cell.contains(&format!("`{word}=")));
    // This word stands for the parameters of any module.
    words.retain(|word| word != "MODULE.PARAM");
    words
}

#[test]
fn every_row_has_tests_that_run_it() {
    let cells = all_cells();
    let (mut used, mut problems) = (BTreeSet::new(), Vec::new());
    for cell in &cells {
        let row = ROWS.iter().filter(|(start, _)| cell.starts_with(start));
        // Take the longest beginning: `--publish` is also a beginning of `--publish-all`.
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
