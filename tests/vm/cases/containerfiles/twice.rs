//! The same bytes from the same Containerfile: for root and for a user without privileges.

use std::fs;

use anyhow::{Result, ensure};

use super::site::{BASE, FILE, command, ran, write};
use crate::harness::make::user::{RANGES, UserBed};
use crate::harness::{Bed, Case};
use crate::recipes::site::Site;
use crate::recipes::twice::{give_to_user, user_command};

#[rustfmt::skip]
pub(crate) const CASES_OF_USERS: &[Case] = &[
    ("same_bytes_for_a_user", same_bytes_for_a_user),
];

/// Stages whose result depends on nothing outside but the time.
const TEXT: &str = "\
FROM base AS tool
RUN mkdir -p /d/sub; seq 2000 > /d/numbers; echo x > /d/sub/x; chown -R 5:6 /d; touch /d/last
FROM base
WORKDIR /srv
COPY --chown=app dir /opt/
COPY --from=tool /d /d
RUN --mount=type=tmpfs,target=/t cat /opt/* > /all; rm /etc/group; touch /t/x
";

const FILES: [&str; 3] = ["o.oci.tar", "o.tar", "o.erofs"];

/// Time of the image.
const EPOCH: &str = "1000000000";

fn same_bytes_for_a_user(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    site.write("dir/a", "a\n")?;
    write(&site, TEXT)?;
    let mut first = Vec::new();
    for file in FILES {
        let mut command = command(&site, &["-o", file]);
        let built = site.run(command.env("SOURCE_DATE_EPOCH", EPOCH))?.is(0, &[])?;
        ensure!(ran(&built).is_empty() != first.is_empty(), "{built}");
        first.push(fs::read(site.own(file))?);
        fs::remove_file(site.own(file))?;
    }
    let user = UserBed::new(bed, RANGES)?;
    give_to_user(&site)?;
    for (file, first) in FILES.iter().zip(&first) {
        let words = [&[FILE], &BASE[..], &["-o", file]].concat();
        let mut command = user_command(&site, &user, bed, &words)?;
        let built = site.run(command.env("SOURCE_DATE_EPOCH", EPOCH))?.is(0, &[])?;
        let runs = *file == "o.oci.tar";
        ensure!(ran(&built).is_empty() != runs, "{built}");
        ensure!(fs::read(site.own(file))? == *first, "{file}: a user's build gives other bytes");
    }
    Ok(())
}
