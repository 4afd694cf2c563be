//! Recipes that are refused: where the mistake is, and what the message says.

use virtinitrd_recipe::{Position, parse};

/// A text that needs only its version: line 1.
fn with_version(text: &str) -> String {
    format!("version = 1\n{text}")
}

/// Checks that each text has a mistake at a line and a column, with a part of a message.
fn check(rows: &[(&str, usize, usize, &str)]) {
    for (text, line, column, part) in rows {
        let mistake = match parse(text) {
            Ok(recipe) => panic!("{text}: {recipe:?}"),
            Err(mistake) => mistake,
        };
        let position = Position { line: *line, column: *column };
        assert_eq!(mistake.position, position, "{text}: {mistake}");
        assert!(mistake.message.contains(part), "{text}: {mistake}");
        assert!(!mistake.message.ends_with('.'), "{text}: {mistake}");
    }
}

/// As [`check`], with the version in line 1 before each text.
fn check_with_version(rows: &[(&str, usize, usize, &str)]) {
    for (text, line, column, part) in rows {
        check(&[(&with_version(text), *line, *column, part)]);
    }
}

#[test]
#[rustfmt::skip]
fn files_that_are_no_recipes() {
    check(&[
        ("", 1, 1, "the version is missing: write version = 1"),
        ("# nothing\n[from]\noci = 'a'", 1, 1, "the version is missing"),
        ("version = 2\nstages = []", 1, 11, "version 2 is not known: this program reads version = 1"),
        ("version = 0", 1, 11, "version 0 is not known"),
        ("version = -1", 1, 11, "version -1 is not known"),
        ("version = 99999999999999999999", 1, 11, "is not known"),
        ("version = '1'", 1, 11, "version has the wrong type (string): write version = 1"),
        ("version = 1.0", 1, 11, "version has the wrong type (float)"),
        ("[version]", 1, 1, "version has the wrong type (table)"),
        ("version = 1\nversion = 1", 2, 1, "duplicate key"),
        ("version = 1\n[from", 2, 6, ""),
        ("version = 1\nname = 'é' 1", 2, 12, ""),
        ("version = 1\n[[step]]\nput = 'a'; to = '/b'", 3, 10, "newline"),
        ("version = 1\nname = \"a\u{1}\"", 2, 10, ""),
    ]);
    let long = parse(&with_version(&" ".repeat(1 << 20))).unwrap_err();
    assert_eq!(long.to_string(), "1:1: the text has 1048588 bytes; at most 1048576 are read");
}

#[test]
#[rustfmt::skip]
fn keys_that_are_unknown() {
    check_with_version(&[
        ("nam = 'a'", 2, 1, "unknown key \"nam\": did you mean name?"),
        ("colour = 1", 2, 1, "unknown key \"colour\": a recipe has version, name, manifest,"),
        ("[[steps]]\nrun = 'x'", 2, 3, "unknown key \"steps\": did you mean step?"),
        ("[form]\noci = 'a'", 2, 2, "did you mean from?"),
        ("[from]\noci-archiv = 'a'", 3, 1, "did you mean oci-archive?"),
        ("[build]\n  nettwork = 'none'", 3, 3, "did you mean network?"),
        ("[build]\nsecrets.npm = { evn = 'A' }", 3, 17, "did you mean env?"),
        ("[build.volumes.'/a']\npath = 'x'\nreadonly = true", 4, 1, "a volume has path and writable"),
        ("[[step]]\nrun = 'x'\nentrypoint = 1", 4, 1, "unknown key \"entrypoint\": a step has run, argv"),
        ("[[step]]\nrun = 'x'\nwork-dir = '/'", 4, 1, "did you mean workdir?"),
        ("[init]\nbuitlin = true", 3, 1, "did you mean builtin?"),
        ("[busybox]\napplet = []", 3, 1, "did you mean applets?"),
        ("[run]\ncmd = ['a']", 3, 1, "unknown key \"cmd\": [run] has command, args"),
        ("[run]\nrestart = { polices = 'no' }", 3, 13, "did you mean policy?"),
        ("[run]\nhealth = { run = 'x', start_period = '1s' }", 3, 23, "did you mean start-period?"),
        ("[machine]\nram = '1G'", 3, 1, "[machine] has cpus, memory, network and publish"),
        ("[[output]]\nfile = 'a'\nexcludes = []", 4, 1, "did you mean exclude?"),
        ("[[output]]\nfile = 'a'\ncluster_size = '1k'", 4, 1, "did you mean cluster-size?"),
        ("\"a\\n\" = 1", 2, 1, "unknown key \"a\\n\""),
    ]);
    let long = parse(&with_version(&format!("{} = 1", "k".repeat(1000)))).unwrap_err();
    assert!(long.message.starts_with(&format!("unknown key \"{}…\"", "k".repeat(60))), "{long}");
}

#[test]
#[rustfmt::skip]
fn values_of_wrong_types() {
    check_with_version(&[
        ("name = 1", 2, 8, "name has the wrong type (integer); it is a string: write name = \"app\""),
        ("from = 'debian'", 2, 8, "it is a table: write [from]"),
        ("[[from]]\noci = 'a'", 2, 1, "it is a table: write [from]"),
        ("[step]\nrun = 'x'", 2, 1, "it is a list of tables: write [[step]]"),
        ("step = ['x']", 2, 9, "step: an entry has the wrong type (string); it is a table: write [[step]]"),
        ("[output]\nfile = 'x'", 2, 1, "it is a list of tables: write [[output]]"),
        ("[build]\nmemory = 2048", 3, 10, "(integer); it is a string: write memory = \"512M\""),
        ("[build]\ncpus = '2'", 3, 8, "it is a whole number: write cpus = 1"),
        ("[build]\ncpus = 1.5", 3, 8, "it is a whole number"),
        ("[build]\nenv = ['A=1']", 3, 7, "it is a table of strings: write env = { NAME = \"text\" }"),
        ("[build]\nenv = { A = 1 }", 3, 13, "env: \"A\" has the wrong type (integer); it is a string"),
        ("[build]\nsecrets = ['npm']", 3, 11, "write secrets.npm = { env = \"NPM_TOKEN\" }"),
        ("[build]\nsecrets.npm = 'A'", 3, 15, "secrets: \"npm\" has the wrong type (string); it is a table: write secrets.npm = { env = \"NPM_TOKEN\" }"),
        ("[build]\ncache = '/x'", 3, 9, "it is a list of strings: write cache = [\"/usr/bin/tool\"]"),
        ("[build]\nnormalise = 'logs'", 3, 13, "it is true, false or a list of strings"),
        ("[build]\ntime = 2024-01-01", 3, 8, "(datetime); it is a whole number"),
        ("[build.volumes]\n'/a' = 'b'", 3, 8, "volumes: \"/a\" has the wrong type (string); it is a table: write volumes = {"),
        ("[[step]]\nrun = ['x']", 3, 7, "it is a string: write run = \"apt-get update\""),
        ("[[step]]\nargv = 'x'", 3, 8, "it is a list of strings: write argv = [\"/usr/bin/tool\","),
        ("[[step]]\nargv = ['x', 1]", 3, 14, "argv: an entry has the wrong type (integer)"),
        ("[[step]]\nput = 'x'\nto = '/x'\nmode = 644", 5, 8, "write mode = \"0644\""),
        ("[[step]]\nput = 'x'\nto = '/x'\nmount = 'yes'", 5, 9, "it is true or false"),
        ("[[step]]\nremove = '/x'", 3, 10, "write remove = [\"/usr/share/doc/**\"]"),
        ("[init]\nbuiltin = 1", 3, 11, "it is true: write builtin = true"),
        ("[run]\nrestart = 'always'", 3, 11, "write restart = { policy = \"on-failure\" }"),
        ("[run]\nexpose = [8080]", 3, 11, "expose: an entry has the wrong type (integer)"),
        ("[[output]]\nfile = 'a'\nslack = 10", 4, 9, "it is a string: write slack = \"10%\""),
        ("[[output]]\nfile = 'a'\ninit = 'yes'", 4, 8, "it is true or false"),
    ]);
}

#[test]
#[rustfmt::skip]
fn verbs_and_what_goes_with_them() {
    check_with_version(&[
        ("[[step]]", 2, 1, "a step needs one of run, argv, script, put, text, url, link, mkdir or"),
        ("[[step]]\nrun = 'x'\n\n[[step]]\nlabel = 'y'", 5, 1, "a step needs one of run"),
        ("[[step]]\nrun = 'x'\nput = 'y'\nto = '/y'", 4, 1, "a step has both run and put: give only"),
        ("step = [{ mkdir = '/a', text = '' }]", 2, 25, "both mkdir and text"),
        ("[[step]]\nput = 'x'\nto = '/x'\nuser = 'a'", 5, 1, "user does not go with put, only with run, argv and script"),
        ("[[step]]\nmkdir = '/x'\nnetwork = 'user'", 4, 1, "network does not go with mkdir, only with run, argv and"),
        ("[[step]]\nowner = '0'\nrun = 'x'", 3, 1, "owner does not go with run, only with put, text, url, link and mkdir"),
        ("[[step]]\nlink = 'x'\nto = '/x'\nmode = '0644'", 5, 1, "mode does not go with link, only with put, text, url and mkdir"),
        ("[[step]]\nmkdir = '/x'\nmount = true", 4, 1, "mount does not go with mkdir, only with put, text and url"),
        ("[[step]]\nput = 'x'\nto = '/x'\nsha256 = ''", 5, 10, "give the 64 hexadecimal digits"),
        ("[[step]]\nremove = ['/x']\nto = '/y'", 4, 1, "to does not go with remove"),
        ("[[step]]\nput = 'x'", 3, 1, "put needs to: write to = \"/usr/bin/tool\""),
        ("[[step]]\nlabel = 'l'\nlink = 'x'", 4, 1, "link needs to"),
        ("[[step]]\nurl = 'https://a'\nto = '/x'", 3, 1, "url needs sha256: write sha256 = \"e3b0"),
        ("[from]", 2, 2, "[from] needs one of oci, oci-layout,"),
        ("[from]\noci = 'a'\ntar = 'b'", 4, 1, "[from] has both oci and tar"),
        ("[from]\ntar = 'a'\nplatform = 'linux/arm64'", 4, 1, "platform does not go with tar, only with oci,"),
        ("[from]\noci = 'a'\ndigest = 'x'", 4, 10, "digest: \"x\": give sha256: and 64"),
        ("[build]\nsecrets.a = { env = 'A', file = 'b' }", 3, 26, "a secret has both env and file"),
        ("[build]\nvolumes = { '/a' = { writable = true } }", 3, 13, "a volume needs path"),
        ("[init]\nnone = true\nbuiltin = true", 4, 1, "[init] has both none and builtin"),
        ("[init]\nnone = false", 3, 8, "none: write true, or leave the key out"),
        ("[busybox]\nurl = 'https://a'", 3, 1, "url needs sha256"),
        ("[busybox]\napplets = []", 2, 2, "[busybox] needs one of path or url"),
        ("[run.health]\ninterval = '1s'", 2, 6, "health needs one of run or argv"),
        ("[run]\nrestart = {}", 3, 1, "restart needs policy"),
        ("[[output]]\nformat = 'erofs'", 2, 1, "an output needs file: write file ="),
        ("[[output]]\nfile = 'a'\nsize = '1G'\nslack = '5%'", 5, 1, "size and slack exclude each other"),
    ]);
}

#[test]
#[rustfmt::skip]
fn paths() {
    check_with_version(&[
        ("[from]\nrecipe = '../base/recipe.toml'", 3, 10, "is outside the package: keep the file below"),
        ("[init]\nfile = '/sbin/init'", 3, 8, "file: \"/sbin/init\" is absolute: name a file of the package"),
        ("[init]\nimage = 'sbin/init'", 3, 9, "is relative: a path of the image begins with /"),
        ("[busybox]\npath = 'a/../../b'", 3, 8, "is outside the package"),
        ("[[step]]\nscript = '/bin/sh'", 3, 10, "is absolute"),
        ("[[step]]\nput = '../x'\nto = '/x'", 3, 7, "put: \"../x\" is outside the package"),
        ("[[step]]\nput = ''\nto = '/x'", 3, 7, "put: the path is empty"),
        ("[[step]]\nput = 'x'\nto = 'usr/bin/'", 4, 6, "to: \"usr/bin/\" is relative"),
        ("[[step]]\nput = 'x'\nto = '/usr/../bin'", 4, 6, "to: \"/usr/../bin\" has ..: write the path without it"),
        ("[[step]]\ntext = ''\nto = '/etc/'", 4, 6, "to: \"/etc/\" names a directory: add the name of the file"),
        ("[[step]]\nlink = 'x'\nto = '/'", 4, 6, "names a directory"),
        ("[[step]]\nmkdir = 'x'", 3, 9, "mkdir: \"x\" is relative"),
        ("[[step]]\nremove = ['/a', 'b']", 3, 17, "remove: \"b\" is relative"),
        ("[[step]]\nremove = ['!/a/../b']", 3, 11, "has .."),
        ("[[step]]\nremove = []", 3, 10, "remove: the list is empty: write remove = ["),
        ("[[step]]\nrun = 'x'\nworkdir = 'a'", 4, 11, "workdir: \"a\" is relative"),
        ("[[step]]\nrun = 'x'\ninputs = ['a', '/b']", 4, 16, "inputs: \"/b\" is absolute"),
        ("[[step]]\nrun = 'x'\ninputs = ['.']", 4, 11, "inputs: \".\" has no name to be seen by"),
        ("[[step]]\nrun = 'x'\ninputs = ['a/x', 'b/x']", 4, 18, "inputs: \"b/x\" has the last name of another input: both would be \"/run/inputs/x\""),
        ("[build]\ncache = ['var']", 3, 10, "cache: \"var\" is relative"),
        ("[build]\ncache = ['/a', '/a']", 3, 16, "cache: \"/a\" is named twice"),
        ("[build]\nvolumes = { 'a' = { path = 'b' } }", 3, 13, "volumes: \"a\" is relative"),
        ("[run]\nworkdir = '..'", 3, 11, "workdir: \"..\" is relative"),
        ("[run]\nvolumes = ['data']", 3, 12, "volumes: \"data\" is relative"),
        ("[[output]]\nfile = ''", 3, 8, "file: the path is empty"),
        ("[[output]]\nfile = 'a'\ninclude = ['etc']", 4, 12, "include: \"etc\" is relative"),
        ("[[output]]\nfile = 'a'\n[[output]]\nfile = './a'", 5, 8, "file: \"./a\" is named twice"),
        ("manifest = 'm'\n[[output]]\nfile = 'm'", 4, 8, "file: \"m\" is named twice"),
    ]);
}

#[test]
#[rustfmt::skip]
fn texts_that_break_a_rule() {
    check_with_version(&[
        ("name = 'App'", 2, 8, "name: \"App\": small letters, digits"),
        ("[from]\noci = ''", 3, 7, "oci: the text is empty"),
        ("[from]\noci = 'a'\nplatform = 'linux/'", 4, 12, "give OS/ARCHITECTURE or"),
        ("[build]\nnetwork = 'usr'", 3, 11, "network: \"usr\": did you mean user?"),
        ("[build]\nnetwork = 'bridge'", 3, 11, "network: \"bridge\": give none or user"),
        ("[build]\ntimeout = '0'", 3, 11, "timeout: \"0\": give a number of seconds above 0"),
        ("[build]\nmemory = '1M'", 3, 10, "memory: \"1M\": at least 32M"),
        ("[build]\nmemory = '99999999999G'", 3, 10, "memory: \"99999999999G\""),
        ("[build]\ncpus = 0", 3, 8, "cpus: give a number from 1 to 4294967295"),
        ("[build]\ntime = -1", 3, 8, "time: give a number from 0 to 4294967295"),
        ("[build]\ndisk = 'much'", 3, 8, "disk: \"much\": give a size such as"),
        ("[build]\nhostname = 'a b'", 3, 12, "hostname: \"a b\": letters, digits"),
        ("[build]\nenv = { 'A=B' = '' }", 3, 9, "has neither = nor white space"),
        ("[build]\nenv = { '' = '' }", 3, 9, "env: \"\": the name of a variable is not empty"),
        ("[build]\nsecrets.'a/b' = { env = 'A' }", 3, 9, "secrets: \"a/b\": letters, digits"),
        ("[build]\nsecrets.a = { env = 'A B' }", 3, 21, "env: \"A B\": the name of a variable"),
        ("[build]\nnormalise = ['log']", 3, 14, "normalise: \"log\": did you mean logs?"),
        ("[build]\nnormalise = ['apt', 'apt']", 3, 21, "is named twice"),
        ("[[step]]\nrun = \" \\n\"", 3, 7, "run: the command is empty"),
        ("[[step]]\nrun = \"a\\u0000\"", 3, 7, "run: the text has a NUL character"),
        ("[[step]]\nargv = []", 3, 8, "argv: the command is empty"),
        ("[[step]]\nargv = ['', 'a']", 3, 8, "argv: the command is empty"),
        ("[[step]]\nargv = ['a', \"\\u0000\"]", 3, 14, "argv: the text has a NUL character"),
        ("[[step]]\nrun = 'x'\nenv = { A = \"\\u0000\" }", 4, 13, "env: the text has a NUL character"),
        ("[[step]]\nrun = 'x'\nenv = { \"A\\u0000\" = '' }", 4, 9, "env: the text has a NUL character"),
        ("[[step]]\nrun = 'x'\nlabel = \"a\\nb\"", 4, 9, "label: \"a\\nb\": give one line of text"),
        ("[[step]]\nrun = 'x'\nuser = 'a:b:c'", 4, 8, "give USER or USER:GROUP"),
        ("[[step]]\nrun = 'x'\ntimeout = '1w'", 4, 11, "timeout: \"1w\""),
        ("[[step]]\nrun = 'x'\nsecrets = ['npm']", 4, 12, "[build] has no secret \"npm\": write secrets.npm ="),
        ("[build]\nsecrets.npm = { env = 'A' }\n[[step]]\nrun = 'x'\nsecrets = ['nmp']", 6, 12, "did you mean npm?"),
        ("[build]\nsecrets.a = { env = 'A' }\n[[step]]\nrun = 'x'\nsecrets = ['a', 'a']", 6, 17, "is named twice"),
        ("[[step]]\nput = 'x'\nto = '/x'\nmode = 'u+x'", 5, 8, "mode: \"u+x\": give auto or a mode in octal"),
        ("[[step]]\nput = 'x'\nto = '/x'\nowner = ':'", 5, 9, "give USER or USER:GROUP"),
        ("[[step]]\nurl = 'file:///x'\nsha256 = ''\nto = '/x'", 3, 7, "url: \"file:///x\": give an address that begins with https://"),
        ("[[step]]\nurl = 'https://a'\nsha256 = 'abc'\nto = '/x'", 4, 10, "sha256: \"abc\": give the 64 hexadecimal digits"),
        ("[busybox]\npath = 'b'\napplets = ['bin/sh']", 4, 12, "give the name of an applet"),
        ("[run]\ncommand = []", 3, 11, "command: the command is empty"),
        ("[run]\nstop-signal = 'STOPIT'", 3, 15, "stop-signal: \"STOPIT\": give the name or the number"),
        ("[run]\nexpose = ['http']", 3, 11, "expose: \"http\": give PORT, PORT/tcp or PORT/udp"),
        ("[run]\nrestart = { policy = 'allways' }", 3, 22, "policy: \"allways\": did you mean always?"),
        ("[run]\nrestart = { policy = 'no', backoff = '2s..1s' }", 3, 38, "backoff: \"2s..1s\": give the first and the longest pause"),
        ("[run]\nstop-timeout = '0'", 3, 16, "stop-timeout: \"0\": give a number of seconds above 0"),
        ("[run]\nbefore = [{ run = ' ' }]", 3, 19, "run: the command is empty"),
        ("[run]\nbefore = [{ argv = ['a'], run = 'b' }]", 3, 27, "run"),
        ("[run]\nhealth = { run = 'x', on-failure = 'stop' }", 3, 36, "on-failure: \"stop\""),
        ("[run]\nhealth = { run = '' }", 3, 18, "run: the command is empty"),
        ("[run]\nhealth = { run = 'x', retries = 0 }", 3, 33, "retries: give a number from 1"),
        ("[run.labels]\n'' = 'x'", 3, 1, "labels: the text is empty"),
        ("[machine]\npublish = ['80']", 3, 12, "publish: \"80\": give HOST:GUEST"),
        ("[[output]]\nfile = 'a'\nslack = '-1'", 4, 9, "slack: \"-1\": give a whole number of percent"),
        ("[[output]]\nfile = 'a'\nsize = '1.5'", 4, 8, "size: \"1.5\": give a size such as"),
    ]);
}

#[test]
fn a_recipe_has_a_bounded_number_of_steps() {
    let steps = |count| with_version(&"[[step]]\nrun = 'x'\n".repeat(count));
    assert_eq!(parse(&steps(1000)).unwrap().steps.len(), 1000);
    check(&[(&steps(1001), 2002, 1, "a recipe has at most 1000 steps")]);
}
