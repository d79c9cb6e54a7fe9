use super::*;

fn failures(text: &str) -> Vec<String> {
    let report = run(text, &mut Library::new());
    report.failures.iter().map(ToString::to_string).collect()
}

#[test]
fn a_script_loads_asks_and_compares() {
    let text = r#"
# three streams
load
  {app="a"} "GET /{{.i}}" @ 10s [repeat every 10s for 6]
  {app="b"} `{"say": "x" @ 5}` @ 1m [metadata trace="t1", k="v"]

  {app="c"} "quote " inside" @ 1s  # a comment

eval instant at 1m count_over_time({app="a"}[1m])   # six
  {app="a"} 6

eval instant at 1m sum(count_over_time({app=~".+"}[1m]))
  {} 8
eval instant at 1m count_over_time({app="b"} |= `"x" @` [1m])
  {app="b", k="v", trace="t1"} 1

eval range from 0 to 2m step 30s count_over_time({app="a"}[1m])
  {app="a"} _ 3 6 3 _
eval range from 0 to 2m step 30s count_over_time({app="c"}[30s])
  {app="c"} _ 1 _ _ _
eval instant at 1m sort(sum by (app) (count_over_time({app=~"a|b"}[1m])))
  expect ordered
  {app="b"} 1
  {app="a"} 6
eval instant at 1m sum by (k) (count_over_time({app="b"} | k="v" | label_format k="a#b" [1m])) # comment
  {k="a#b"} 1 # comment
eval instant at 1m 0.1 + 0.2 - 0.3
  0
eval instant at 1m 1 + 1
  2
eval instant at 1m count_over_time({app="none"}[1m])
  expect empty
eval instant at 1m sum_over_time({app="a"}[1m])
  expect fail msg: without unwrap   # comment
eval instant at 1m {app=
  expect fail regex: unexpected .end
clear
eval instant at 1m count_over_time({app="a"}[1m])
  skip values-comparison on "some stack"
  expect empty
"#;
    assert_eq!(failures(text), Vec::<String>::new());
    assert_eq!(run(text, &mut Library::new()).passed, 13);
}

#[test]
fn what_a_script_may_leave_out_or_say_otherwise_is_understood() {
    let text = r##"
load
  {app="a"} "x" @ 10 [repeat every 1s for 3]   # 12 s at last

  {app="b"} "y" @ 1m

eval range from 0 to 120 step 30 count_over_time({app="a"}[30s])
  {app="a"} _ 3

eval instant at 60 rate({app="a"}[1m]) / 3

  {app="a"} 0.01666667

eval instant at 1m sort_desc(sum by (app) (count_over_time({app=~".+"}[1m])))
  expect ordered

  {app="a"} 3   # first
  {app="b"} 1
eval range from 0 to 1m step 30s sort(sum by (app) (count_over_time({app=~".+"}[30s])))
  expect ordered
  {app="a"} _ 3 _
  {app="b"} _ _ 1
eval instant at 1m sum by (x) (count_over_time({app="b"} | label_format x="a\"#\"b" [1m]))
  {x="a\"#\"b"} 1
eval instant at 1m label_replace(count_over_time({app=~".+"}[1m]), "app", "z", "app", ".*")
  {app="z"} 3
  {app="z"} 1
"##;
    assert_eq!(failures(text), Vec::<String>::new());
    assert_eq!(run(text, &mut Library::new()).passed, 6);
}

#[test]
fn what_differs_is_shown() {
    let text = r#"
load
  {app="a"} "x" @ 10s
eval instant at 1m count_over_time({app="a"}[1m])
  {app="a"} 2
eval instant at 1m count_over_time({app="a"}[1m])
  expect fail
eval range from 0 to 1m step 30s count_over_time({app="a"}[1m])
  {app="a"} 1 _ _
eval instant at 1m vector(
  {} 1
"#;
    assert_eq!(
        failures(text),
        [
            "4: count_over_time({app=\"a\"}[1m]): got {app=\"a\"} 1 / expected {app=\"a\"} 2",
            "6: count_over_time({app=\"a\"}[1m]): got {app=\"a\"} 1 / expected an error",
            "8: count_over_time({app=\"a\"}[1m]): got {app=\"a\"} 1@30 1@60 / expected {app=\"a\"} 1 _ _",
            "10: vector(: got error: parse error at line 1, col 8: syntax error: unexpected $end, expecting NUMBER / expected {} 1",
        ]
    );
}

#[test]
fn a_wrong_script_says_where() {
    let text = r#"
load
  {app="a"} x @ 10s

eval instant at 1m vector(1)

eval instant at soon vector(1)
  {} 1

evil
eval range from 0 to 1m step 1m vector(1)
  {} 1 1 1
eval instant at 1m vector(1)
  {} one
eval instant at 1m vector(1)
  {} 1
  expect empty
eval instant at 1m vector(1)
  expect fail mesg: x
eval range from 0 to 1m step 1m vector(1)
  {} 1
eval instant at 1m vector(1)
  {} _
eval instant at 1m vector(1)
  skip it
  {} 1
load
"#;
    let lines: Vec<usize> = run(text, &mut Library::new())
        .failures
        .iter()
        .map(|f| f.line)
        .collect();
    assert_eq!(lines, [3, 5, 7, 10, 11, 14, 15, 19, 20, 22, 25, 27]);
}
