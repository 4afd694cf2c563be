//! What steps see: users, variables, words, files of the package, volumes, caches.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Result, ensure};

use super::site::{Site, output, run};
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("programs_have_their_surroundings", programs_have_their_surroundings),
    ("files_of_the_package_are_seen",    files_of_the_package_are_seen),
    ("volumes_and_caches",               volumes_and_caches),
    ("processes_left_behind_are_killed", processes_left_behind_are_killed),
    ("only_layers_reach_later_steps",    only_layers_reach_later_steps),
];

/// A step with settings.
fn with(settings: &str, step: &str) -> String {
    step.replace("[[step]]\n", &format!("[[step]]\n{settings}\n"))
}

fn programs_have_their_surroundings(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let tmp = site.path("root/tmp");
    fs::set_permissions(tmp, fs::Permissions::from_mode(0o1777))?;
    // A script may be any program, and lack the execute bit.
    site.write("tools/words.sh", "#!/bin/cat\nthe text\n")?;
    site.write("words", "#!/bin/sh\nfor word; do printf '[%s]' \"$word\"; done > /words\n")?;
    fs::set_permissions(site.own("words"), fs::Permissions::from_mode(0o755))?;
    let words = r#"argv = ["/run/inputs/words", "", "*", "a b", "$HOME", "\"'`\\", "a\nb", "ü"]"#;
    let id = "id > /tmp/id; pwd >> /tmp/id; echo $HOME >> /tmp/id; umask >> /tmp/id; ls -l /tmp/id";
    let text = [
        "build.env = { A = \"build\", B = \"build\", EMPTY = \"\" }\nbuild.hostname = \"maker\"\nbuild.time = 86400\n".to_owned(),
        output("o.tar"),
        with("user = \"app\"\nworkdir = \"/tmp\"", &run(id)),
        with("user = \"12:34\"", &run("id > /tmp/numbers; echo $HOME >> /tmp/numbers")),
        with("env = { B = \"step\", C = \"a b=c\" }", &run("env > /env; hostname > /host; cat /proc/self/cgroup > /dev/null")),
        with("inputs = [\"words\"]", &format!("[[step]]\n{words}\n")),
        "[[step]]\nscript = \"tools/words.sh\"\n".to_owned(),
        // The output of steps is no file, and its shell stops at the first error and at a variable
        // that is not set.
        run("false | true; (set +e; false; true); test -z \"$(cat)\"; echo $$ > /pid"),
    ];
    let built = site.build(&text.concat(), &[])?.is(0, &["#!/bin/cat\nthe text\n"])?;
    ensure!(built.ran() == [1, 2, 3, 4, 5, 6] && built.stdout.is_empty(), "{built}");
    for (path, expected) in [
        ("/tmp/id", "uid=1000(app) gid=1001(app) groups=50(staff)\n/tmp\n/srv/app\n0022\n"),
        ("/tmp/numbers", "uid=12 gid=34\n/\n"),
        ("/host", "maker\n"),
        ("/words", "[][*][a b][$HOME][\"'`\\][a\nb][ü]"),
        ("/pid", "2\n"),
    ] {
        let found = site.text("o.tar", path)?;
        ensure!(found == expected, "{path}: {found}");
    }
    let env = site.text("o.tar", "/env")?;
    let mut lines: Vec<_> =
        env.lines().filter(|line| !line.starts_with("SHLVL") && !line.starts_with("PWD")).collect();
    lines.sort_unstable();
    let expected = [
        "A=build",
        "B=step",
        "C=a b=c",
        "EMPTY=",
        "HOME=/root",
        "LANG=C.UTF-8",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "SOURCE_DATE_EPOCH=86400",
        "TZ=UTC",
    ];
    ensure!(lines == expected, "{env}");
    for failing in ["false; true", "echo $UNSET"] {
        let text = format!("{}{}", text.concat(), run(failing));
        site.build(&text, &[])?.is(1, &["step 7 (run "])?;
    }
    Ok(())
}

fn files_of_the_package_are_seen(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    for (name, text) in [
        ("one", "1"),
        ("dir/a", "a"),
        ("dir/sub/b", "b"),
        ("glob/x.cfg", "x"),
        ("glob/y.cfg", "y"),
        ("glob/z", "z"),
    ] {
        site.write(name, text)?;
    }
    let list = "cd /; find run/inputs -type f | sort > /inputs; cat run/inputs/one run/inputs/dir/sub/b >> /inputs
        (echo x > /run/inputs/one) 2>/dev/null && exit 9; (rm /run/inputs/dir/a) 2>/dev/null && exit 9; true";
    let mounted = |to: &str, source: &str| {
        format!("[[step]]\nput = \"{source}\"\nto = \"{to}\"\nmount = true\n")
    };
    let text = [
        output("o.tar"),
        run("test ! -e /opt/tool; test ! -e /etc/cfg; test ! -e /run/inputs"),
        mounted("/opt/tool", "one"),
        mounted("/opt/dir", "dir"),
        mounted("/etc/cfg/", "glob/*.cfg"),
        "[[step]]\ntext = \"text\"\nto = \"/srv/text\"\nmount = true\nmode = \"0600\"\n".to_owned(),
        with("inputs = [\"one\", \"dir\"]", &run(list)),
        run(
            "test ! -e /run/inputs; cat /opt/tool /opt/dir/sub/b /etc/cfg/x.cfg /etc/cfg/y.cfg /srv/text > /seen; test ! -e /etc/cfg/z; stat -c %a /srv/text >> /seen",
        ),
    ];
    site.build(&text.concat(), &[])?.is(0, &[])?;
    for (path, expected) in [
        ("/inputs", "run/inputs/dir/a\nrun/inputs/dir/sub/b\nrun/inputs/one\n1b"),
        ("/seen", "1bxytext600\n"),
    ] {
        let found = site.text("o.tar", path)?;
        ensure!(found == expected, "{path}: {found}");
    }
    let archive = site.archive("o.tar")?;
    for absent in ["opt", "etc/cfg", "srv", "run/inputs"] {
        ensure!(!archive.contains_key(absent), "{absent} is in the image");
    }
    Ok(())
}

fn volumes_and_caches(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    for dir in ["read", "write"] {
        fs::create_dir(site.path(dir))?;
        fs::write(site.path(dir).join("file"), "host\n")?;
    }
    let settings = "[build]\ncache = [\"/var/cache/x\"]\nvolumes = { \"/srv/r\" = { path = \"../read\" }, \
                    \"/srv/w\" = { path = \"../write\", writable = true } }\n";
    let script = |name: &str| {
        format!(
            "(echo x > /srv/r/new) 2>/dev/null && exit 9; cat /srv/r/file > /{name}; echo {name} >> /srv/w/new
             cat /var/cache/x/log >> /{name} 2>/dev/null || true; echo {name} >> /var/cache/x/log"
        )
    };
    let build = |names: &[&str]| {
        let steps: String = names.iter().map(|name| run(&script(name))).collect();
        site.build(&format!("{settings}{}{steps}", output("o.tar")), &[])
    };
    build(&["one", "two"])?.is(0, &[])?;
    ensure!(
        site.text("o.tar", "/one")? == "host\n" && site.text("o.tar", "/two")? == "host\none\n"
    );
    let ran = build(&["one", "two", "three"])?.is(0, &[])?.ran();
    ensure!(ran == [3], "ran {ran:?}");
    let text = site.text("o.tar", "/three")?;
    ensure!(text == "host\none\ntwo\n", "{text}");
    let archive = site.archive("o.tar")?;
    for absent in ["srv", "var"] {
        ensure!(!archive.contains_key(absent), "{absent} is in the image");
    }
    ensure!(fs::read_to_string(site.path("write/new"))? == "one\ntwo\nthree\n");
    ensure!(!site.path("read/new").exists(), "a read-only volume was written");
    // A step that fails keeps neither its layer nor the cache, and the cache is still whole.
    let failing = format!("{settings}{}{}", output("o.tar"), run("rm /var/cache/x/log; exit 1"));
    site.build(&failing, &[])?.is(1, &[])?;
    build(&["one", "two", "four"])?.is(0, &[])?;
    let text = site.text("o.tar", "/four")?;
    ensure!(text == "host\none\ntwo\nthree\n", "{text}");
    Ok(())
}

fn processes_left_behind_are_killed(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let leave = "setsid sh -c 'trap \"\" TERM HUP; echo $$ > /pid; while :; do echo x >> /log; sleep 0.01; done' &
        until test -s /log; do sleep 0.01; done";
    let text = format!(
        "{}{}{}",
        output("o.tar"),
        run(leave),
        run(
            "ps > /ps 2>/dev/null || ls /proc > /ps; wc -c < /log > /before; sleep 0.5; wc -c < /log > /after"
        )
    );
    let built = site.build(&text, &[])?;
    let built =
        built.is(0, &["warning: ", " of the step still ran at its end, and were killed"])?;
    ensure!(built.stderr.matches("still ran").count() == 1, "{built}");
    ensure!(site.text("o.tar", "/before")? == site.text("o.tar", "/after")?, "it still writes");
    Ok(())
}

/// What a step leaves outside of its layer would be missing if the layer were kept. The root
/// directory itself belongs to the layer.
fn only_layers_reach_later_steps(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let leave = "echo x > /dev/shm/x; echo x > /run/x; echo x > /layer; chmod 0711 /";
    let look = "test -e /layer; test ! -e /dev/shm/x; test ! -e /run/x; ls -ld / > /mode";
    let text = [output("o.tar"), run(leave), run(look)].concat();
    site.build(&text, &[])?.is(0, &[])?;
    ensure!(
        site.text("o.tar", "/mode")?.starts_with("drwx--x--x"),
        "{}",
        site.text("o.tar", "/mode")?
    );
    Ok(())
}
