//! Options as variables of the environment.

use clap::Command;

use super::OptionDoc;

const PREFIX: &str = "PHAROS_";
/// Which of two names is meant when they differ in so few letters.
const TYPING_ERRORS_MAX: usize = 3;

/// Lets every long flag of the command also be given as `PHAROS_` + its name in capitals, and lets
/// the help of those in `docs` say the default.
pub fn with_environment(command: Command, docs: &[OptionDoc]) -> Command {
    command.mut_args(|arg| match arg.get_long().map(str::to_owned) {
        Some(long) if !matches!(long.as_str(), "help" | "version") => {
            let key = long.replace('-', "_");
            let variable = format!("{PREFIX}{}", key.to_uppercase());
            // Values may be secrets: help names the variable and never what is in it.
            let arg = arg.env(variable).hide_env_values(true);
            match docs.iter().find(|doc| doc.name == key) {
                Some(doc) => {
                    let help = format!("{} [default: {}]", doc.help, or_empty(doc.default));
                    arg.help(help).long_help(clap::builder::Resettable::Reset)
                }
                None => arg,
            }
        }
        _ => arg,
    })
}

/// A default as help shows it.
fn or_empty(default: &str) -> &str {
    match default {
        "" => "empty",
        default => default,
    }
}

/// The variables among `given` that look like options and are none, each with the one that was
/// probably meant. Those that Kubernetes sets for a Service whose name begins with `pharos` are not
/// among them.
pub fn unknown_variables(
    given: impl IntoIterator<Item = String>,
    known: &[String],
) -> Vec<(String, Option<String>)> {
    let mut unknown: Vec<String> = given
        .into_iter()
        .filter(|name| name.starts_with(PREFIX))
        .filter(|name| !known.contains(name) && !is_of_a_service(name))
        .collect();
    unknown.sort();
    let meant = |name: &str| {
        let near = known
            .iter()
            .map(|candidate| (distance(name, candidate), candidate));
        let nearest = near
            .min()
            .filter(|(errors, _)| *errors <= TYPING_ERRORS_MAX);
        nearest.map(|(_, candidate)| candidate.clone())
    };
    unknown
        .into_iter()
        .map(|name| (name.clone(), meant(&name)))
        .collect()
}

/// `PHAROS_SERVICE_HOST`, `PHAROS_PORT_3100_TCP_ADDR`, `PHAROS_QUERIER_SERVICE_PORT_HTTP` and so on.
fn is_of_a_service(name: &str) -> bool {
    let words: Vec<&str> = name.split('_').skip(1).collect();
    words.windows(2).any(|pair| match pair {
        ["SERVICE", "HOST" | "PORT"] => true,
        ["PORT", port] => !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()),
        _ => false,
    }) || words.last() == Some(&"PORT")
}

/// How many letters must be put in, taken out or changed to make one of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, other) in b.iter().enumerate() {
            let change = diagonal + usize::from(letter != other);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(given: &[&str]) -> Vec<(String, Option<String>)> {
        let known = ["PHAROS_SHARDS", "PHAROS_HTTP_ADDR"].map(str::to_owned);
        unknown_variables(given.iter().map(|name| (*name).to_owned()), &known)
    }

    #[test]
    fn a_variable_that_is_no_option_is_told_with_the_nearest_one() {
        let found = unknown(&[
            "PHAROS_SHARD",
            "PATH",
            "PHAROS_SHARDS",
            "PHAROS_FOO_BAR_BAZ",
        ]);
        let meant = Some("PHAROS_SHARDS".to_owned());
        assert_eq!(
            found,
            [
                ("PHAROS_FOO_BAR_BAZ".to_owned(), None),
                ("PHAROS_SHARD".to_owned(), meant)
            ]
        );
    }

    #[test]
    fn variables_that_kubernetes_sets_for_a_service_are_no_mistakes() {
        let found = unknown(&[
            "PHAROS_SERVICE_HOST",
            "PHAROS_SERVICE_PORT",
            "PHAROS_SERVICE_PORT_HTTP",
            "PHAROS_PORT",
            "PHAROS_PORT_3100_TCP",
            "PHAROS_PORT_3100_TCP_ADDR",
            "PHAROS_QUERIER_PORT_3100_TCP_PROTO",
        ]);
        assert_eq!(found, []);
    }

    #[test]
    fn distances_count_letters() {
        for (a, b, errors) in [
            ("", "ab", 2),
            ("abc", "abc", 0),
            ("abc", "axc", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(
                (distance(a, b), distance(b, a)),
                (errors, errors),
                "{a} {b}"
            );
        }
    }
}
