//! The command `curfew`; all of it is in the library beside it, where fuzz targets can reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    curfew_cli::main()
}
