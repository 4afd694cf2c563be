//! Texts of `chrootvm -h` and `chrootvm --help` around the list of options.
//!
//! `-h` fits on one screen of 24 lines with 80 columns. It hides the list of options, which
//! [`OFTEN_USED`] replaces.

/// Usage lines.
pub(crate) const USAGE: &str = "\
chrootvm [OPTIONS] ROOTFS [--] COMMAND [ARG]...
       chrootvm [OPTIONS] ROOTFS [INIT]
       chrootvm --doctor [ROOTFS]
       chrootvm run|exec|ps|logs|restart|stop|image|cache|kernel|help ...";

/// Examples, before the usage lines.
pub(crate) const EXAMPLES: &str = "\
Examples:
  chrootvm ./debian uname -sr              run a command in ./debian
  chrootvm --overlay debian.erofs -- bash  a shell; what it writes is forgotten
  chrootvm -v ./src:/mnt -w /mnt ./debian make test
  chrootvm ./debian /sbin/init             boot, with INIT as PID 1";

/// Most useful options, after the usage lines of `-h`.
pub(crate) const OFTEN_USED: &str = "\
ROOTFS is a directory or an image, read-only unless you give one of these:
  --rw  --overlay        let the guest write to ROOTFS, or to memory
  -v HOST:GUEST[:ro]     share a directory     -e NAME=VALUE  set a variable
  -p HOST:GUEST          forward a port        -w DIR         start in DIR
  -m SIZE  -c N          memory, processors    --net user     have a network
  --kernel FILE  --modules DIR  if neither ROOTFS nor this host has one
  --doctor               say what is missing on this host";

/// Subcommands and statuses, at the end of `--help`.
pub(crate) const MORE: &str = "\
Subcommands:
  run          run a command; unlike above, one word is a COMMAND, too
  exec         run one more command in a running machine
  ps           list the running machines
  logs         print the output of a machine with --logs or --detach
  restart      end workloads, and start them again
  stop         end machines
  image        make images of directories and archives, and look into them
  kernel       build and list small kernels
  cache        list, check and remove what is kept: images, layers, kernels
  completions  print a script with which bash, zsh or fish completes words
  help         print the help of a subcommand: chrootvm help image build

With COMMAND, standard input, output and error are the command's, and so is the
exit status: 0-255 the command's own, 128+N signal N ended it, 126 it cannot be
executed, 127 not found, 125 chrootvm or the machine failed, or output cannot be
written, 124 --timeout. On a terminal, Enter ~ . ends the machine.

With INIT the console is on the terminal: Ctrl-A X ends the machine, Ctrl-A C
opens QEMU's monitor. Exit status: 0 the guest powered off, halted or was ended
at its console, or INIT ended with status 0; 125 anything else, 128+N signal N
ended chrootvm.";
