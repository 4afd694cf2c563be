//! Target for Containerfiles.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use recipe::containerfile::{self, Action, Arguments, Config, Evaluated, FromBase, Mount};
use recipe::{Mistake, Position};

use super::input::Answer;

/// Words of Containerfiles.
#[rustfmt::skip]
pub(super) const WORDS: &[&str] = &[
    "\nFROM a AS b\n", "\nFROM b\n", "\nFROM scratch\n", "\nARG A=1\n", "\nARG GIVEN\n", "\nENV A=b c=d\n", "\nENV a b\n",
    "\nRUN ", "\nCOPY ", "\nADD ", "\nLABEL ", "\nEXPOSE 1-3/udp\n", "\nVOLUME ", "\nUSER ", "\nWORKDIR ", "\nCMD ",
    "\nENTRYPOINT ", "\nSHELL [\"a\", \"b\"]\n", "\nSTOPSIGNAL 9\n", "\nHEALTHCHECK CMD ", "\nHEALTHCHECK NONE\n", "\nONBUILD ",
    "\nMAINTAINER a\n", "--from=b ", "--from=0 ", "--chown=1:2 ", "--chmod=u=rwX,go=rX ", "--chmod=0644 ", "--exclude=* ",
    "--link ", "--unpack=false ", "--checksum=sha256:", "--network=none ", "--platform=$BUILDPLATFORM ", "--interval=1m30s ",
    "--mount=type=cache,target=/a,id=b ", "--mount=type=secret,id=a,env=B,required ", "--mount=from=b,source=a,target=c,rw ",
    "--mount=type=tmpfs,target=/t,size=1m ", "https://a/b ", "https://a/b.git ", "<<EOF", "<<-'EOF'", "<<", "\nEOF\n", "#!/bin/sh\n",
    "# escape=`\n", "# syntax=a\n", "# a\n", "\\\n", "`\n", "\\", "`", "\r\n", "$A", "${A", "${A:-", "${A:+", "${A:?", "${A##", "${A%%",
    "${A//", "/", "}", "*", "?", "'", "\"", "[\"a\", \"b\"]", "[", "]", "$((", "))", ",", "=", "..", "\u{feff}", "é", "\t",
];

/// Arguments of each build.
fn arguments() -> Arguments {
    Arguments {
        given: BTreeMap::from([("GIVEN".to_owned(), "given".to_owned())]),
        build_platform: "linux/amd64".to_owned(),
        target_platform: "linux/arm64/v8".to_owned(),
    }
}

/// Seeds of Containerfiles.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let whole = r#"# syntax=docker/dockerfile:1
ARG VERSION=1 GIVEN
FROM --platform=$BUILDPLATFORM rust:${VERSION:-1} AS build
ARG TARGETARCH
WORKDIR /src
# The lock file first: it changes seldom.
COPY --link Cargo.* ./
RUN --mount=type=cache,target=/root/.cargo,id=cargo-$TARGETARCH \
    --mount=type=secret,id=token,env=TOKEN \
    # a comment
    cargo fetch
COPY --chown=1000:1000 --chmod=u=rwX,go=rX --exclude=*.md . .
RUN --network=none --mount=from=base,target=/base,ro cat <<A > /x && cat 3<<-"B" > /y
one $x
A
	two
	B
RUN <<EOF
#!/usr/bin/env python3
print(1 << 2)
EOF
FROM debian:12 AS base
ARG VERSION
ENV PATH=/app/bin:$PATH NAME="a b" X=${VERSION%%.*}${PATH//:/_}
ENV old form
LABEL org.opencontainers.image.title="app" b='c'
FROM base
COPY --from=build /src/target/app /app/bin/
COPY <<config.toml <<"raw" /etc/app/
name = "$NAME"
config.toml
$NAME
raw
ADD --checksum=sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 https://example.org/a /a
ADD ["a b.tar", "/"]
SHELL ["/bin/bash", "-ec"]
EXPOSE 80 8000-8002/udp
VOLUME /data /more
USER app:app
STOPSIGNAL SIGINT
HEALTHCHECK --interval=30s --timeout=3s --retries=3 CMD curl -f http://localhost/ || exit 1
ENTRYPOINT ["app"]
CMD ["--help"]
"#;
    let small = "\u{feff}# escape=`\r\nfrom scratch\r\nrun a `\r\n\r\n  b\r\nmaintainer c\r\n";
    vec![whole.as_bytes().to_vec(), small.as_bytes().to_vec()]
}

/// Rules for every Containerfile: a mistake is inside the text, a base is an earlier stage, and
/// paths are absolute.
pub(super) fn check(input: &[u8]) -> Result<Answer> {
    let Ok(text) = std::str::from_utf8(input) else { return Ok(Answer::Refused) };
    match stages(text) {
        Ok(stages) => {
            stages.iter().try_for_each(check_stage)?;
            Ok(Answer::Accepted)
        }
        Err(mistake) => {
            let Position { line, column } = mistake.position;
            let lines = text.matches('\n').count() + 1;
            ensure!((1..=lines).contains(&line) && column > 0, "a mistake at {line}:{column}");
            ensure!(mistake.message.len() < 4096, "a message of {} bytes", mistake.message.len());
            Ok(Answer::Refused)
        }
    }
}

/// Reads and evaluates all stages of `text`.
fn stages(text: &str) -> Result<Vec<Evaluated>, Mistake> {
    let file = containerfile::parse(text)?;
    let arguments = arguments();
    let mut stages: Vec<Evaluated> = Vec::new();
    for (index, from) in file.froms(&arguments)?.into_iter().enumerate() {
        let base = match from.base {
            // A later stage as a base would end here.
            FromBase::Stage(base) => stages[base].config.clone(),
            FromBase::Scratch => Config::scratch(),
            FromBase::Image(_) => Config::default(),
        };
        stages.push(file.evaluate(index, &base, &arguments)?);
    }
    Ok(stages)
}

/// Rules for a stage.
fn check_stage(stage: &Evaluated) -> Result<()> {
    let workdir = &stage.config.workdir;
    ensure!(workdir.is_empty() || is_absolute(workdir), "a working directory {workdir:?}");
    for done in &stage.instructions {
        match &done.action {
            Action::Run(run) => {
                ensure!(run.words.is_empty() == run.script.is_some(), "{:?}", run.words);
                ensure!(is_absolute(&run.workdir), "a working directory {:?}", run.workdir);
                for mount in &run.mounts {
                    let target = match mount {
                        Mount::Cache { target, .. }
                        | Mount::Bind { target, .. }
                        | Mount::Tmpfs { target, .. } => Some(target),
                        Mount::Secret { target, .. } => target.as_ref(),
                    };
                    ensure!(target.is_none_or(|target| is_absolute(target)), "{mount:?}");
                }
            }
            Action::Copy(copy) => {
                ensure!(!copy.sources.is_empty() && is_absolute(&copy.to), "{copy:?}");
            }
            Action::Directory { path, .. } => ensure!(is_absolute(path), "a directory {path:?}"),
            Action::Config => {}
        }
    }
    Ok(())
}

/// Whether `path` is absolute and has no `..`.
fn is_absolute(path: &str) -> bool {
    path.starts_with('/') && !path.split('/').any(|name| name == "..")
}
