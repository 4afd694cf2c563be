//! Images as OCI archives: their layers and config, and what other tools and machines make of them.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use virtinitrd_vm_tests::tool;

use super::site::{build, command, ran, write};
use crate::harness::command_run::CommandRun;
use crate::harness::programs::stdout_of;
use crate::harness::trial::needs;
use crate::harness::{Bed, Case};
use crate::recipes::site::Site;

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("archive_has_a_layer_for_each_change", archive_has_a_layer_for_each_change),
    ("other_tools_read_the_layers",         other_tools_read_the_layers),
    ("image_runs_as_its_user",              image_runs_as_its_user),
];

const TEXT: &str = r#"
FROM base AS lower
ENTRYPOINT ["/bin/old"]
CMD ["old"]
LABEL a=1 b=1
EXPOSE 80
FROM lower AS reset
ENTRYPOINT ["/bin/new"]
FROM lower
ARG NOT=there
ENV A="of the image" PATH=/bin
RUN echo run > /of-run; rm /etc/group; mkdir -p /srv/data; chown app /srv/data; ln /of-run /same; mknod /null c 1 3
COPY file /opt/file
RUN true
COPY --chown=app:7 dir /opt/
RUN rm -r /opt/sub; mkdir /opt/sub; echo new > /opt/sub/new; chmod 600 /opt/file
WORKDIR /srv/work
USER app
ENTRYPOINT ["/bin/sh", "-c", "echo \"the workload: $(cat /opt/a) $A $(id -u) $PWD $0|$1\""]
CMD ["x y", ""]
VOLUME /data
VOLUME ["/var/lib/x"]
EXPOSE 53/udp 8000-8001
LABEL b=2 "c d"="e f"
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=5s --retries=2 CMD curl -f x
"#;

/// What the workload prints.
const LINE: &str = "the workload: a of the image 1000 /srv/work x y|";

/// Instructions that have a layer.
const CREATED_BY: [&str; 6] = [
    "FROM",
    "RUN echo run > /of-run",
    "COPY file /opt/file",
    "COPY --chown=app:7 dir /opt/",
    "RUN rm -r /opt/sub",
    "WORKDIR /srv/work",
];

/// What `image inspect` says of the config.
const CONFIG: &str = r#"
entrypoint   "/bin/sh" "-c" "echo \"the workload: $(cat /opt/a) $A $(id -u) $PWD $0|$1\""
command      "x y" ""
env          A=of the image
             PATH=/bin
user         app
directory    /srv/work
stop signal  SIGQUIT
volume       /data
             /var/lib/x
port         53/udp
             80/tcp
             8000/tcp
             8001/tcp
label        a=1
             b=2
             c d=e f
health       CMD-SHELL curl -f x, every 5s, 2 retries
"#;

/// A site with the Containerfile and its context.
fn site(bed: &Bed) -> Result<Site> {
    let site = Site::new(bed)?;
    for (name, text) in [("file", "file\n"), ("dir/a", "a\n"), ("dir/sub/b", "b\n")] {
        site.write(name, text)?;
    }
    write(&site, TEXT)?;
    Ok(site)
}

fn build_all(site: &Site, words: &[&str]) -> Result<()> {
    let built = site.run(&mut command(site, words))?;
    built.is(0, &[]).with_context(|| format!("{words:?}")).map(drop)
}

/// The last column of `image layers`.
fn created_by(site: &Site, image: &str) -> Result<Vec<String>> {
    let table = site.image(&["layers", image])?;
    let (head, rows) = table.split_once('\n').context("a table")?;
    let at = head.find("CREATED BY").context("the column")?;
    Ok(rows.lines().map(|row| row.chars().skip(at).collect()).collect())
}

fn archive_has_a_layer_for_each_change(bed: &Bed) -> Result<()> {
    let site = site(bed)?;
    build_all(&site, &["-o", "o.oci.tar", "--tag", "name:1"])?;
    for output in ["o.tar", "o.erofs"] {
        build_all(&site, &["-o", output])?;
        ensure!(site.image(&["diff", "o.oci.tar", output])?.is_empty(), "{output} differs");
    }
    let found = created_by(&site, "o.oci.tar")?;
    ensure!(found.len() == CREATED_BY.len(), "{found:?}");
    for (found, expected) in found.iter().zip(CREATED_BY) {
        ensure!(found.starts_with(expected), "{found} instead of {expected}");
    }
    let facts = site.image(&["inspect", "o.oci.tar"])?;
    ensure!(facts.contains(CONFIG.trim()), "{facts}");
    ensure!(!facts.contains("NOT"), "{facts}");
    build_all(&site, &["-o", "reset.oci.tar", "--target", "reset"])?;
    let facts = site.image(&["inspect", "reset.oci.tar"])?;
    let is_reset = facts.contains("\"/bin/new\"\n") && !facts.contains("\ncommand");
    ensure!(is_reset, "{facts}");

    // One layer for all, and one layer more on an image that has some.
    build_all(&site, &["-o", "squashed.oci.tar", "--squash"])?;
    ensure!(created_by(&site, "squashed.oci.tar")?.len() == 1);
    ensure!(site.image(&["diff", "o.oci.tar", "squashed.oci.tar"])?.is_empty());
    let upper = "FROM image\nUSER 0\nRUN echo upper > /upper\nRUN rm /null\n";
    let mut layers = Vec::new();
    for (output, words) in [("2.oci.tar", &["--squash"][..]), ("3.oci.tar", &[])] {
        let named = ["--build-context", "image=o.oci.tar", "-o", output];
        let built = build(&site, upper, &[&named[..], words].concat())?.is(0, &[])?;
        ensure!(words.is_empty() == ran(&built).is_empty(), "{built}");
        layers.push(created_by(&site, output)?.len() - CREATED_BY.len());
    }
    ensure!(layers == [1, 2], "{layers:?} new layers");
    ensure!(site.image(&["diff", "2.oci.tar", "3.oci.tar"])?.is_empty());
    ensure!(site.text("3.oci.tar", "/upper")? == "upper\n");
    let facts = site.image(&["inspect", "3.oci.tar"])?;
    ensure!(facts.contains("command      \"x y\" \"\"\n"), "{facts}");
    Ok(())
}

fn other_tools_read_the_layers(bed: &Bed) -> Result<()> {
    needs(&["skopeo", "umoci"])?;
    let site = site(bed)?;
    build_all(&site, &["-o", "o.oci.tar", "--tag", "name:1"])?;
    build_all(&site, &["-o", "o.tar"])?;
    let run = |command: &mut Command| stdout_of(command.current_dir(site.path("package")));
    let config = run(tool("skopeo").args(["inspect", "--config", "oci-archive:o.oci.tar"]))?;
    for text in
        ["\"StopSignal\": \"SIGQUIT\"", "\"created_by\": \"COPY file /opt/file\"", "\"8001/tcp\""]
    {
        let is_there = config.replace("\":\"", "\": \"").contains(text);
        ensure!(is_there, "skopeo does not say {text}: {config}");
    }
    let copy = ["--insecure-policy", "copy", "--quiet", "oci-archive:o.oci.tar:1", "oci:copy:1"];
    run(tool("skopeo").args(copy))?;
    run(tool("umoci").args(["unpack", "--image", "copy:1", "bundle"]))?;
    let differences = site.image(&["diff", "bundle/rootfs", "o.tar", "--ignore", "time"])?;
    ensure!(differences.is_empty(), "{differences}");
    Ok(())
}

fn image_runs_as_its_user(bed: &Bed) -> Result<()> {
    let site = site(bed)?;
    build_all(&site, &["-o", "o.oci.tar"])?;
    build_all(&site, &["-o", "o.erofs", "--init"])?;
    let mut machine = bed.bare_machine()?;
    machine.root_is(&site.own("o.oci.tar"));
    let cache = machine.path("cache");
    let run = CommandRun::new(machine, &[]).without_separator().variable("XDG_CACHE_HOME", cache);
    run.finish()?.is(0, format!("{LINE}\n"), "")?;
    let mut machine = bed.bare_machine()?;
    machine.root_is(&site.own("o.erofs"));
    machine.boot()?.ends_with(0, &[LINE])?;
    fs::remove_file(site.own("o.erofs"))?;
    Ok(())
}
