use std::path::Path;

use clap::CommandFactory;

use super::*;
use crate::options::reference;

#[test]
fn flags_are_unique_and_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn every_default_can_be_read() {
    let matches = Cli::command().get_matches_from(["pharos", "serve"]);
    let Cli::Serve(arguments) = Cli::from_arg_matches(&matches).unwrap();
    let settings = arguments.settings().unwrap();
    assert_eq!(settings.server.http_addr.to_string(), "127.0.0.1:3100");
}

#[test]
fn zero_is_refused_where_it_has_no_meaning() {
    let matches = Cli::command().get_matches_from(["pharos", "serve", "--decoders-max", "0"]);
    let Cli::Serve(arguments) = Cli::from_arg_matches(&matches).unwrap();
    let refused = arguments.settings().unwrap_err().to_string();
    assert_eq!(
        refused,
        "decoders_max is 0, which has no meaning; set it to at least 1"
    );
}

#[test]
fn the_reference_page_is_current() {
    let mut page = String::from(
        "# Options of `pharos serve`\n\n\
         Each option is a flag (`--head-bytes-max`), a variable (`PHAROS_HEAD_BYTES_MAX`) and a key in its section of the\n\
         YAML file given with `--config`. Flag beats variable beats file beats default. Generated: `UPDATE_EXPECT=1 cargo test -p pharos`.\n",
    );
    for (section, options) in reference() {
        page += &format!("\n## {section}\n\n| key | default | what it is |\n|---|---|---|\n");
        for option in options {
            let default = match option.default {
                "" => "empty".to_owned(),
                default => format!("`{default}`"),
            };
            page += &format!("| `{}` | {default} | {} |\n", option.name, option.help);
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/config.md");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(stored, page, "run UPDATE_EXPECT=1 cargo test -p pharos");
}
