//! The cases: what happens in the machine, what its console shows, and what each program does.
//!
//! In each case, the program has one command, the main process. Scripts say [`SAY`] words into
//! the kernel log, which reaches the console at once, even if the machine ends next.

use std::time::Duration;

use proto::settings::Record;
use proto::settings::restart::Restart;

/// Beginning of each script. `say` logs a line, `once` ends the machine if the main process was
/// started before, and `rest` runs until a signal comes.
pub(super) const SAY: &str = r#"#!/bin/sh
say() { echo "<1>inits: $*" > /dev/kmsg; }
once() { mkdir /run/started 2> /dev/null || { say main has started again; poweroff -f; }; }
rest() { while :; do sleep 0.1; done; }
"#;

/// Beginning of each tester: it goes on when the main process is ready, and no SIGTERM ends it.
pub(super) const TESTER: &str = "trap '' TERM
until [ -e /run/ready ]; do sleep 0.1; done
";

/// One case.
#[derive(Debug)]
pub(super) struct Case {
    /// Its name, which is the first cell of its row.
    pub(super) name: &'static str,
    /// Script of the main process.
    pub(super) main: &'static str,
    /// Script that `main` may start as a child.
    pub(super) child: &'static str,
    /// Script that runs in a session of its own; empty: there is none.
    pub(super) tester: &'static str,
    /// What the run file of `/init` says besides the command.
    pub(super) records: &'static [Record<'static>],
    /// Texts on the console, and the outcome that each of them means. The first that appears
    /// counts; in one line, the first here.
    pub(super) outcomes: &'static [(&'static str, &'static str)],
    /// The outcome of each program, in the order of the programs.
    pub(super) expected: [&'static str; 5],
}

/// Sends SIGTERM to PID 1. Nothing that is to come takes as long as this waits.
const TERM: &str = "kill -TERM 1; sleep 15; say main still runs; poweroff -f";

/// The end of PID 1, which is also the end of everything else (`kernel/exit.c`).
const PID_1_ENDS: &str = "Attempted to kill init!";

/// Time that `/init` gives a process to end.
const STOP_TIMEOUT: Record<'_> = Record::StopTimeout(Duration::from_secs(2));

/// The cases, in the order of the rows.
pub(super) const CASES: &[Case] = &[
    // Users expect the status that the command would have alone (README of tini: "exits with the
    // child's exit code"). PID 1 of a machine has one that the kernel prints.
    Case {
        name: "main process exits with 42",
        main: "once; exit 42",
        child: "",
        tester: "",
        records: &[],
        outcomes: &[
            ("exitcode=0x00002a00", "status 42"),
            ("the command has ended with status 42", "status 42"),
            ("main has started again", "starts it again"),
        ],
        expected: ["status 42", "status 42", "status 42", "starts it again", "status 42"],
    },
    // 128+N, as a shell has it (sh(1p), "Exit Status for Commands").
    Case {
        name: "signal 9 kills the main process",
        main: "once; kill -KILL $$",
        child: "",
        tester: "",
        records: &[],
        outcomes: &[
            ("exitcode=0x00008900", "status 137"),
            ("the command has ended with status 137", "status 137"),
            ("main has started again", "starts it again"),
        ],
        expected: ["status 137", "status 137", "status 137", "starts it again", "status 137"],
    },
    // Restarts are what supervisors are for (s6-supervise(1), "if ./run dies, s6-supervise
    // restarts it"); Docker leaves them to the engine (--restart).
    Case {
        name: "main process crashes, and is to run again",
        main: "once; kill -SEGV $$",
        child: "",
        tester: "",
        records: &[Record::Restart(Restart::OnFailure)],
        outcomes: &[("main has started again", "starts it again"), (PID_1_ENDS, "ends")],
        expected: ["ends", "ends", "ends", "starts it again", "starts it again"],
    },
    // Orphans become children of PID 1, which has to wait for them (wait(2), NOTES).
    Case {
        name: "1000 orphans end",
        main: "i=0
            while [ $i -lt 100 ]; do
                ( : & : & : & : & : & : & : & : & : & : & )
                i=$((i + 1))
            done
            for i in 1 2 3 4 5 6 7 8 9 10; do
                zombies=$(cat /proc/[0-9]*/stat 2> /dev/null | grep -c ') Z ')
                [ \"$zombies\" != 0 ] || break
                sleep 1
            done
            say zombies: $zombies.; poweroff -f",
        child: "",
        tester: "",
        records: &[],
        outcomes: &[("zombies: 0.", "reaps them"), ("zombies: ", "leaves zombies")],
        expected: ["reaps them"; 5],
    },
    // `docker stop` and a scheduler that takes a host away send SIGTERM to PID 1, to which the
    // kernel gives no default action (README of dumb-init, "Why you need an init system").
    Case {
        name: "SIGTERM to PID 1",
        main: "trap 'say main got TERM; exit 0' TERM; touch /run/ready; rest",
        child: "",
        tester: TERM,
        records: &[],
        outcomes: &[("main got TERM", "reaches main"), ("main still runs", "is lost")],
        expected: ["reaches main"; 5],
    },
    // README of dumb-init, "Session behavior"; README of tini, "Process group killing" (-g).
    Case {
        name: "… and a child of the main process",
        main: "trap end=1 TERM; end=; /bin/child &
            while [ ! \"$end\" ]; do sleep 0.1; done
            for i in 1 2 3 4 5 6 7 8 9 10; do
                [ ! -e /run/term ] || { say the child got TERM; exit 0; }
                sleep 1
            done
            say the child got nothing; exit 0",
        child: "trap 'touch /run/term' TERM; touch /run/ready; rest",
        tester: "kill -TERM 1",
        records: &[],
        outcomes: &[("the child got TERM", "reaches it"), ("the child got nothing", "does not")],
        expected: ["reaches it", "does not", "does not", "does not", "reaches it"],
    },
    // An engine has a time limit outside of the container (docker stop --time); PID 1 of a machine
    // has nobody outside. s6-supervise has one if a service asks for it (timeout-kill).
    Case {
        name: "… and the main process ignores it",
        main: "trap '' TERM; touch /run/ready; rest",
        child: "",
        tester: TERM,
        records: &[STOP_TIMEOUT],
        outcomes: &[("main still runs", "nothing ends it"), ("reboot: Restarting", "kills it")],
        expected: [
            "nothing ends it",
            "nothing ends it",
            "nothing ends it",
            "nothing ends it",
            "kills it",
        ],
    },
    // A stopped process gets signals when it goes on (signal(7)). systemd sends SIGCONT after
    // SIGTERM (systemd.kill(5)).
    Case {
        name: "… and the main process is stopped",
        main: "trap 'say main got TERM; exit 0' TERM
            echo $$ > /run/main; touch /run/ready; kill -STOP $$; rest",
        child: "",
        tester: "until grep -q '^State:.T' /proc/$(cat /run/main)/status; do sleep 0.1; done
            kill -TERM 1; sleep 15; say main is still stopped; poweroff -f",
        records: &[],
        outcomes: &[("main got TERM", "continues it"), ("main is still stopped", "stays stopped")],
        expected: [
            "stays stopped",
            "stays stopped",
            "stays stopped",
            "continues it",
            "continues it",
        ],
    },
    // Daemons write out what they hold when they get SIGTERM. At the end of PID 1, the kernel
    // gives them no time (pid_namespaces(7), "The namespace's init process").
    Case {
        name: "main process exits, and leaves another",
        main: "[ ! -e /run/left ] || {
                kill -0 $(cat /run/left) && say the other still runs; poweroff -f
            }
            /bin/child &
            until [ -e /run/ready ]; do sleep 0.1; done",
        child: "trap 'sleep 0.5; say the other had time to end; exit 0' TERM
            echo $$ > /run/left; touch /run/ready; rest",
        tester: "",
        records: &[],
        outcomes: &[
            ("the other had time to end", "TERM, and time"),
            ("the other still runs", "lets it run"),
            (PID_1_ENDS, "cuts it off"),
        ],
        expected: ["cuts it off", "cuts it off", "cuts it off", "lets it run", "TERM, and time"],
    },
    // systemd(1), "SIGNALS": "Halts the machine". Engines send it as the stop signal of an image.
    Case {
        name: "SIGRTMIN+3 to PID 1",
        main: "trap 'say main got signal 37; exit 0' 37; trap 'exit 0' TERM; touch /run/ready; rest",
        child: "",
        tester: "kill -37 1; sleep 15; say main still runs; poweroff -f",
        records: &[STOP_TIMEOUT],
        outcomes: &[
            ("main got signal 37", "reaches main"),
            ("main still runs", "is lost"),
            ("virtinit: halted, as ordered", "halts the machine"),
        ],
        expected: ["reaches main", "reaches main", "reaches main", "is lost", "halts the machine"],
    },
    // Ctrl-C goes to the foreground process group of a controlling terminal (credentials(7)).
    // Fields 5, 7 and 8 of proc_pid_stat(5): process group, terminal, foreground group.
    Case {
        name: "terminal of the main process",
        main: "set -- $(cat /proc/$$/stat)
            if [ $7 != 0 ] && [ $5 = $8 ]; then say main is in front; else say no terminal; fi
            poweroff -f",
        child: "",
        tester: "",
        records: &[],
        outcomes: &[("main is in front", "the console"), ("no terminal", "none")],
        expected: ["the console", "none", "none", "none", "the console"],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Else a program could never do what the table expects of it.
    #[test]
    fn each_expected_outcome_is_known() {
        for case in CASES {
            for outcome in case.expected {
                let is_known = case.outcomes.iter().any(|(_, known)| *known == outcome);
                assert!(is_known, "{}: {outcome}", case.name);
            }
        }
    }

    /// A row is found by its name.
    #[test]
    fn names_are_unique() {
        for (at, case) in CASES.iter().enumerate() {
            assert!(
                CASES.iter().skip(at + 1).all(|other| other.name != case.name),
                "{}",
                case.name
            );
        }
    }
}
