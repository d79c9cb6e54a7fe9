use std::path::Path;

use clap::CommandFactory;

use super::*;
use crate::options::reference;

#[test]
fn flags_are_unique_and_well_formed() {
    Cli::command().debug_assert();
}

/// What `pharos serve` makes of these flags.
pub(crate) fn serve(flags: &[&str]) -> anyhow::Result<options::Settings> {
    let words = ["pharos", "serve"].iter().chain(flags);
    match Cli::from_arg_matches(&Cli::command().get_matches_from(words))? {
        Cli::Serve(arguments) => arguments.settings(),
        other => panic!("{other:?} is another command"),
    }
}

#[test]
fn every_default_can_be_read() {
    let settings = serve(&[]).unwrap();
    assert_eq!(settings.server.http_addr.to_string(), "127.0.0.1:3100");
    assert_eq!(settings.cluster.listen().unwrap(), None);
}

#[test]
fn zero_is_refused_where_it_has_no_meaning() {
    let refused = serve(&["--decoders-max", "0"]).unwrap_err().to_string();
    assert_eq!(
        refused,
        "decoders_max is 0, which has no meaning; set it to at least 1"
    );
}

#[test]
fn limits_beyond_what_can_be_stored_or_sent_are_refused() {
    let rpc = ["--rpc-addr", "127.0.0.1:1", "--storage-url", "/bucket"];
    let refused = |flags: &[&str]| serve(flags).map_err(|error| error.to_string()).err();
    let text = refused(&["--line-bytes-max", "256MiB"]).unwrap();
    assert_eq!(
        text,
        "line_bytes_max and metadata_bytes_max together are 268500992 bytes; a record that is stored has at most 268435456"
    );
    let most = ["--line-bytes-max", "255MiB", "--metadata-bytes-max", "1MiB"];
    assert_eq!(refused(&most), None);
    for flag in ["--metadata-pairs-max", "--label-names-max"] {
        assert_eq!(refused(&[flag, "65536"]), None);
        let text = refused(&[flag, "65537"]).unwrap();
        assert!(text.contains("at most 65536"), "{text}");
    }
    let large = ["--decompressed-bytes-max", "129MiB"];
    assert_eq!(refused(&large), None, "there is no other process");
    let text = refused(&[&rpc[..], &large].concat()).unwrap();
    assert!(text.contains("rpc_message_bytes_max, 268435456"), "{text}");
    let patient = [&rpc[..], &["--ingest-patience", "46s"]].concat();
    assert!(refused(&patient).unwrap().contains("up to 61 s after it"));
    assert_eq!(refused(&["--ingest-patience", "46s"]), None);
    let raised = [&rpc[..], &large, &["--rpc-message-bytes-max", "258MiB"]].concat();
    assert_eq!(refused(&raised), None);
}

#[test]
fn options_of_a_cluster_that_contradict_each_other_are_refused() {
    let rpc = ["--rpc-addr", "127.0.0.1:1", "--storage-url", "/bucket"];
    for (flags, part) in [
        (&["--join", "a:1"][..], "rpc_addr is not"),
        (&["--roles", "querier"], "needs join"),
        (&["--rpc-addr", "127.0.0.1:1"], "set storage_url"),
        (&["--rpc-addr", "here"], "it is an address and a port"),
        (
            &["--rpc-addr", "0.0.0.0:1", "--storage-url", "b"],
            "rpc_advertise",
        ),
        (&["--meta-voters", "2"], "1, 3 or 5"),
        (&["--replicas", "0"], "at least 1"),
        (&["--rpc-tls-key", "k"], "all three"),
    ] {
        let refused = serve(flags).unwrap_err();
        assert!(
            format!("{refused:#}").contains(part),
            "{flags:?}: {refused:#}"
        );
    }
    let flags = [&rpc[..], &["--roles", "querier", "--join", " a:1,b:1, "]].concat();
    let settings = serve(&flags).unwrap();
    assert_eq!(settings.cluster.join(), ["a:1", "b:1"]);
    assert_eq!(settings.cluster.advertised(), "127.0.0.1:1");
}

#[test]
fn the_reference_page_is_current() {
    let mut page = String::from(
        "# Options of `pharos serve`\n\n\
         Each option is a flag (`--head-bytes-max`), a variable (`PHAROS_HEAD_BYTES_MAX`) and a key in its section of the\n\
         YAML file given with `--config`. Flag beats variable beats file beats default. A variable `PHAROS_…` that is no option is only warned of,\n\
         because Kubernetes sets some for Services. Generated: `UPDATE_EXPECT=1 cargo test -p pharos`.\n",
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
