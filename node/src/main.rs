//! The `tcat` program.

fn main() -> std::process::ExitCode {
    tcat::cli::main()
}
