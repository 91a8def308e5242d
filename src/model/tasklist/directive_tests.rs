//! What is said of tasks in lists: lists as users write them, each with its tasks as they are
//! stored, and lists that are refused.

use proptest::prelude::*;

use super::*;
use crate::model::attributes::Attributes;

fn tasks_as(dialect: Dialect, list: &[u8], cuts: &[usize]) -> Result<Vec<String>, ListError> {
    let mut parser = Parser::of(dialect);
    let mut tasks = Vec::new();
    let mut emit = |task: &[u8]| tasks.push(String::from_utf8_lossy(task).into_owned());
    let mut from = 0;
    for &to in cuts.iter().chain([&list.len()]) {
        parser.feed(&list[from..to], &mut emit)?;
        from = to;
    }
    parser.finish(&mut emit)?;
    Ok(tasks)
}

fn tasks(list: &str) -> Result<Vec<String>, ListError> {
    tasks_as(Dialect::default(), list.as_bytes(), &[])
}

/// Lists of every kind, and their tasks.
const LISTS: [(&str, &[&str]); 10] = [
    // Plain.
    (
        "./sim --seed 1\n./sim --seed 2\n",
        &["./sim --seed 1", "./sim --seed 2"],
    ),
    // Defaults.
    (
        "#PYTF cpus=4 mem=8G time=2h retries=2\n./sim --seed 1\n./sim --seed 2   #PYTF mem=32G\n",
        &[
            "./sim --seed 1 #PYTF cpus=4 mem=8G time=2h retries=2",
            "./sim --seed 2 #PYTF cpus=4 mem=32G time=2h retries=2",
        ],
    ),
    // CPUs and GPUs in one list.
    (
        "./prep data.h5  #PYTF cpus=16\n./train a  #PYTF gpus=1 time=4h\n\
         ./train b  #PYTF gpus=2 time=8h\n./eval all  #PYTF cpus=2\n",
        &[
            "./prep data.h5 #PYTF cpus=16",
            "./train a #PYTF gpus=1 time=4h",
            "./train b #PYTF gpus=2 time=8h",
            "./eval all #PYTF cpus=2",
        ],
    ),
    // Stages.
    (
        "./part 1\n./part 2\n#PYTF barrier ok\n./merge\n#PYTF barrier\n./clean\n",
        &[
            "./part 1",
            "./part 2",
            "./merge #PYTF stage-ok=1",
            "./clean #PYTF stage=2",
        ],
    ),
    // Names.
    (
        "./train a  #PYTF name=a gpus=1\n./deploy a  #PYTF name=d after=a\n\
         ./test a 1  #PYTF name=t after=d\n./test a 2  #PYTF name=t after=d\n\
         ./report  #PYTF after-any=t\n",
        &[
            "./train a #PYTF gpus=1 name=a",
            "./deploy a #PYTF name=d after=a",
            "./test a 1 #PYTF name=t after=d",
            "./test a 2 #PYTF name=t after=d",
            "./report #PYTF after-any=t",
        ],
    ),
    // Text around the commands, and a command that is repeated.
    (
        "#PYTF prefix source env.sh && cd $SCRATCH &&\n#PYTF env OMP_NUM_THREADS=4\n\
         #PYTF repeat i=0-20:10 T=300,310 ./md -T {T} -s {i} #PYTF creates=out/{i}_{T}\n",
        &[
            "export OMP_NUM_THREADS=4; source env.sh && cd $SCRATCH && ./md -T 300 -s 0 #PYTF creates=out/0_300",
            "export OMP_NUM_THREADS=4; source env.sh && cd $SCRATCH && ./md -T 310 -s 0 #PYTF creates=out/0_310",
            "export OMP_NUM_THREADS=4; source env.sh && cd $SCRATCH && ./md -T 300 -s 10 #PYTF creates=out/10_300",
            "export OMP_NUM_THREADS=4; source env.sh && cd $SCRATCH && ./md -T 310 -s 10 #PYTF creates=out/10_310",
            "export OMP_NUM_THREADS=4; source env.sh && cd $SCRATCH && ./md -T 300 -s 20 #PYTF creates=out/20_300",
            "export OMP_NUM_THREADS=4; source env.sh && cd $SCRATCH && ./md -T 310 -s 20 #PYTF creates=out/20_310",
        ],
    ),
    // Memory by attempt.
    (
        "#PYTF mem=4G,16G,60G retries=2 retry-on=oom\n./assemble s1.fq\n./assemble s2.fq\n",
        &[
            "./assemble s1.fq #PYTF mem=4G,16G,60G retries=2 retry-on=oom",
            "./assemble s2.fq #PYTF mem=4G,16G,60G retries=2 retry-on=oom",
        ],
    ),
    // Order, node, result.
    (
        "./big mesh9  #PYTF priority=10 node=fat*\n./small mesh1  #PYTF creates=out/mesh1.vtk\n\
         ./small mesh2  #PYTF creates='out/mesh 2.vtk'\n",
        &[
            "./big mesh9 #PYTF node=fat* priority=10",
            "./small mesh1 #PYTF creates=out/mesh1.vtk",
            "./small mesh2 #PYTF creates=$'out/mesh\\x202.vtk'",
        ],
    ),
    // The long options.
    (
        "#PYTF --cpus-per-task=2 --task-timeout=3h\n./hydro case1\n\
         ./hydro case2  #PYTF task-timeout=5h --gpus-per-task=1\n",
        &[
            "./hydro case1 #PYTF cpus=2 time=3h",
            "./hydro case2 #PYTF cpus=2 gpus=1 time=5h",
        ],
    ),
    // JSON lines.
    (
        "{\"command\":\"./sim 'a b'\",\"cpus\":4,\"name\":\"s1\"}\n\n# more\n\
         {\"command\":\"./sim c # d\",\"mem\":[\"8G\",\"16G\"],\"after\":[\"s1\"],\"priority\":-1}\n",
        &[
            "./sim 'a b' #PYTF cpus=4 name=s1",
            "./sim c # d #PYTF mem=8G,16G priority=-1 after=s1",
        ],
    ),
];

#[test]
fn lists_of_every_kind_are_read() {
    for (list, expected) in LISTS {
        assert_eq!(tasks(list).unwrap(), expected, "{list}");
        // What was stored reads as what was meant.
        for line in expected {
            let read = Attributes::of_line(line.as_bytes()).unwrap();
            let command = super::super::attributes::command(line.as_bytes());
            assert_eq!(
                joined(command, read.to_string().as_bytes()),
                line.as_bytes()
            );
        }
    }
}

#[test]
fn the_more_specific_holds() {
    for (list, expected) in [
        (
            "#PYTF cpus=2\n#PYTF mem=1G\na\n#PYTF cpus=3\nb #PYTF mem=2G\nc",
            &[
                "a #PYTF cpus=2 mem=1G",
                "b #PYTF cpus=3 mem=2G",
                "c #PYTF cpus=3 mem=1G",
            ][..],
        ),
        (
            "#PYTF cpus=2 priority=1\na #PYTF priority=0\n#PYTF defaults\nb",
            &["a #PYTF cpus=2", "b"],
        ),
        // Barriers stay; several in a row are one, and above all tasks there is none.
        (
            "#PYTF barrier ok\na\n#PYTF barrier\n#PYTF barrier ok\n#PYTF defaults\nb",
            &["a", "b #PYTF stage-ok=1"],
        ),
        (
            "#PYTF suffix > log\n#PYTF cpus=2\na #PYTF gpus=1",
            &["a > log #PYTF cpus=2 gpus=1"],
        ),
        (
            "#PYTF mem=1G\n{\"command\":\"a\",\"cpus-per-task\":2}",
            &["a #PYTF cpus=2 mem=1G"],
        ),
        ("a \\\n  -b #PYTF cpus=2", &["a   -b #PYTF cpus=2"]),
    ] {
        assert_eq!(tasks(list).unwrap(), expected, "{list}");
    }
}

#[test]
fn only_the_exact_word_outside_quotes_is_ours() {
    for (line, stored) in [
        // In quotes it is a part of the command, and stored so that it stays one.
        ("echo 'a #PYTF cpus=4'", "echo 'a #PYTF cpus=4' #PYTF"),
        ("echo \"a #PYTF cpus\" # b", "echo \"a #PYTF cpus\" # b"),
        ("echo a#PYTF cpus=4", "echo a#PYTF cpus=4"),
        ("echo ##PYTF cpus=4", "echo ##PYTF cpus=4"),
        ("echo #PYTFX", "echo #PYTFX"),
        ("echo \\ #PYTF cpus=4", "echo \\  #PYTF cpus=4"),
        ("echo # it's #PYTF cpus=4", "echo # it's #PYTF cpus=4"),
        ("echo $(a #PYTF cpus=4)", "echo $(a #PYTF cpus=4) #PYTF"),
        ("echo 'a #PYTF cpus=4 '", "echo 'a #PYTF cpus=4 ' #PYTF"),
        ("{ echo a; } #PYTF cpus=4", "{ echo a; } #PYTF cpus=4"),
    ] {
        let read = tasks(line).unwrap();
        assert_eq!(read.len(), 1);
        assert_eq!(read[0], stored, "{line}");
    }
    let plain = Dialect {
        plain: true,
        ..Dialect::default()
    };
    let list = b"#PYTF cpus=x\necho a #PYTF cpus=x\necho b #PYTF\necho # c\n{\"a\":";
    let stored = [
        "echo a #PYTF cpus=x #PYTF",
        "echo b #PYTF #PYTF",
        "echo # c",
        "{\"a\":",
    ];
    assert_eq!(tasks_as(plain, list, &[]).unwrap(), stored);
}

/// A list, and the line, the column and a part of the message of its error.
type Refused = (&'static str, u64, u64, &'static str);

const WRONG_WORDS: &[Refused] = &[
    ("a\nb #PYTF cpu=4", 2, 9, "did you mean 'cpus'?"),
    ("a #PYTF 5", 1, 9, "'5' is not known"),
    ("  a   #PYTF mem=4000", 1, 17, "4000M or 4000G?"),
    ("a #PYTF barrier", 1, 9, "not known"),
    ("a #PYTF stage=1", 1, 9, "#PYTF barrier"),
    ("a \\\n b #PYTF \\\n time=30", 3, 7, "30s or 30m?"),
    ("#PYTF time=30", 1, 12, "30s or 30m?"),
    (
        "\\\n#PYTF repeat i=1-3 c {i} #PYTF after=n",
        1,
        1,
        "no task has the name 'n'",
    ),
    (
        "#PYTF repeat i=1-2 a {i} #PYTF cpu=4",
        1,
        1,
        "did you mean 'cpus'?",
    ),
    ("a #PYTF nodes=none", 1, 15, "a whole number from 1"),
    ("a #PYTF:", 1, 3, "without a colon"),
];

const WRONG_NAMES: &[Refused] = &[
    (
        "a #PYTF name=mesh\nb #PYTF after=mehs",
        2,
        3,
        "no task has the name 'mehs'; did you mean 'mesh'?",
    ),
    ("a #PYTF name=a after=a", 1, 3, "in a circle: 'a' after 'a'"),
    (
        "x\na #PYTF name=a after=c\nb #PYTF name=b after=a\nc #PYTF name=c after-any=b",
        4,
        3,
        "in a circle: 'a' after 'c' after 'b' after 'a'",
    ),
    (
        "a #PYTF name=a\nb #PYTF after=c\n#PYTF barrier\nc #PYTF name=c",
        2,
        3,
        "line 4 with this name is below the next barrier",
    ),
];

const WRONG_JSON: &[Refused] = &[
    ("{\"command\":\"a\"}\nb", 2, 1, "has to be a JSON object"),
    (
        "b\n {\"command\":\"a\"}",
        2,
        2,
        "the tasks above are commands",
    ),
    (
        "{\"command\":\"a\",\"cpu\":1}",
        1,
        16,
        "did you mean 'cpus'?",
    ),
    ("{\"comand\":\"a\"}", 1, 2, "did you mean 'command'?"),
    ("{\"cpus\":1}", 1, 1, "'command' is missing"),
    (
        "{\"command\":\"a\",\"cpus\":1,\"cpus\":2}",
        1,
        16,
        "there twice",
    ),
    (
        "{\"command\":\"a\",\"cpus\":true}",
        1,
        16,
        "a string or a number",
    ),
    (
        "{\"command\":\"a\",\"cpus\":[1]}",
        1,
        16,
        "a string or a number",
    ),
    ("{\"command\":\"a\",\"after\":[]}", 1, 16, "no value"),
    ("{\"command\":\"a\",\"after\":[\"b,c\"]}", 1, 16, "no comma"),
    ("{\"command\":\"a\",\"time\":30}", 1, 16, "30s or 30m?"),
    ("{\"command\":\"a\\nb\"}", 1, 2, "no line feed"),
    ("{\"command\":\"\"}", 1, 2, "is empty"),
    (
        "{\"command\":\"a #PYTF cpus=1\"}",
        1,
        2,
        "members of their own",
    ),
    ("{\"command\":\"a\"", 1, 14, "not a JSON object"),
    ("{\"command\":\"a\"} b", 1, 17, "not a JSON object"),
];

#[test]
fn what_is_wrong_is_named_at_its_place() {
    for (list, line, column, part) in [WRONG_WORDS, WRONG_NAMES, WRONG_JSON].concat() {
        match tasks(list) {
            Err(
                ListError::Directive {
                    line: at,
                    column: place,
                    what,
                }
                | ListError::ForeignSyntax {
                    line: at,
                    column: place,
                    what,
                    ..
                },
            ) => {
                assert_eq!((at, place), (line, column), "{list}: {what}");
                assert!(what.contains(part), "{list}: {what}");
            }
            other => panic!("{list}: {other:?}"),
        }
    }
}

#[test]
fn tasks_of_a_stream_wait_for_tasks_above_them() {
    let stream = || Dialect::default().of_stream();
    let read = |list: &str| tasks_as(stream(), list.as_bytes(), &[]);
    assert!(read("a #PYTF name=a\nb #PYTF name=b after=a\nc #PYTF name=b").is_ok());
    for (list, part) in [
        (
            "b #PYTF after=a\na #PYTF name=a",
            "waits for tasks above it",
        ),
        ("a #PYTF name=a after=a", "waits for tasks above it"),
        (
            "a #PYTF name=a\nb #PYTF after=a\na #PYTF name=a",
            "no more tasks can have this name",
        ),
    ] {
        let what = read(list).unwrap_err().to_string();
        assert!(what.contains(part), "{what}");
    }
}

#[test]
fn added_tasks_may_wait_for_others_and_have_no_barrier() {
    let mut parser = Parser::of(Dialect::default().of_added());
    let list = b"a #PYTF after=x,y\nb #PYTF name=y after=x";
    parser.feed(list, &mut |_| ()).unwrap();
    parser.finish(&mut |_| ()).unwrap();
    let added = [&b"a #PYTF name=x after=y"[..], b"b #PYTF name=y after=x"];
    let what = check_added(added.into_iter()).unwrap_err().to_string();
    assert!(what.contains("in a circle"), "{what}");
    let what = tasks_as(Dialect::default().of_added(), b"a\n#PYTF barrier\nb", &[]).unwrap_err();
    assert!(what.to_string().contains("have no barrier"), "{what}");
}

#[test]
fn what_holds_for_all_tasks_is_said_of_each() {
    let said = Attributes::parse(b"cpus=2 name=n").unwrap();
    let list = b"a\n#PYTF cpus=3\nb #PYTF name=m\n#PYTF defaults\nc # d";
    let read = |plain: bool| {
        let dialect = Dialect {
            plain,
            ..Dialect::default()
        };
        tasks_as(dialect.with(said.clone()), list, &[]).unwrap()
    };
    let all = [
        "a #PYTF cpus=2 name=n",
        "b #PYTF cpus=3 name=m",
        "c # d #PYTF cpus=2 name=n",
    ];
    assert_eq!(read(false), all);
    assert_eq!(read(true)[1], "b #PYTF name=m #PYTF cpus=2 name=n");
}

#[test]
fn a_chain_of_any_length_is_checked() {
    let mut list = String::new();
    for n in 0..20_000 {
        list += &format!("a #PYTF name=n{n} after=n{}\n", n + 1);
    }
    let whole = format!("{list}b #PYTF name=n20000\n");
    assert_eq!(tasks(&whole).unwrap().len(), 20_001);
    let what = tasks(&format!("{list}b #PYTF name=n20000 after=n0")).unwrap_err();
    assert!(what.to_string().contains("more after 'n0'"), "{what}");
}

/// Pieces of which lists with directives are made, right and wrong ones.
fn lists() -> impl Strategy<Value = Vec<u8>> {
    let piece = proptest::sample::select(vec![
        &b"\n"[..],
        b"\n",
        b"\n",
        b" ",
        b"\\",
        b"\r\n",
        b"a",
        b"./b c",
        b"#",
        b" #PYTF",
        b"#PYTF ",
        b"\n#PYTF ",
        b" cpus=2",
        b" mem=1G,2G",
        b" time=1h",
        b" name=n",
        b" after=n",
        b" after-any=m",
        b" name=m",
        b" creates='x y'",
        b"barrier",
        b" ok",
        b"defaults",
        b"prefix p",
        b"suffix s",
        b"env A=1",
        b"repeat i=1-3 c {i}",
        b"'",
        b"\"",
        b"$(",
        b")",
        b"{\"command\":\"c\"",
        b",\"cpus\":2",
        b",\"after\":[\"n\"]",
        b"}",
        b"=",
        b"\xff",
        b"\0",
    ]);
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// The rules that hold for every list: see `rules_hold`.
fn check_rules(list: &[u8], cuts: &[usize]) -> Result<(), TestCaseError> {
    let mut cuts: Vec<_> = cuts.iter().map(|at| at % (list.len() + 1)).collect();
    cuts.sort_unstable();
    let whole = tasks_as(Dialect::default(), list, &[]);
    let bytes: Vec<_> = (0..list.len()).collect();
    prop_assert_eq!(&tasks_as(Dialect::default(), list, &cuts), &whole);
    prop_assert_eq!(&tasks_as(Dialect::default(), list, &bytes), &whole);
    if let Err(ListError::Directive { line, column, .. }) = &whole {
        let mut lines = (1..).zip(list.split(|byte| *byte == b'\n'));
        let text = lines.find(|(number, _)| number == line);
        let len = text.map_or(0, |(_, text)| text.len()) as u64;
        prop_assert!(*column <= len + 1, "column {} of {}", column, len);
    }
    if let Ok(tasks) = &whole {
        // One that is known from before, as a list that was checked.
        let known = Remarks {
            tasks: 77,
            ..Remarks::default()
        };
        let mut parser = Parser::of(Dialect::default()).again(Some(known.clone()));
        let mut again = Vec::new();
        let mut emit = |task: &[u8]| again.push(String::from_utf8_lossy(task).into_owned());
        prop_assert!(parser.feed(list, &mut emit).is_ok());
        prop_assert!(parser.finish(&mut emit).is_ok());
        prop_assert_eq!(&again, tasks);
        prop_assert_eq!(parser.remarks(), known);
    }
    for line in whole.unwrap_or_default() {
        let attributes = Attributes::of_line(line.as_bytes());
        let command = super::super::attributes::command(line.as_bytes());
        prop_assert!(!command.is_empty());
        // The stored form reads back as itself.
        let attributes = attributes.unwrap().to_string();
        prop_assert_eq!(joined(command, attributes.as_bytes()), line.as_bytes());
    }
    let plain = Dialect {
        plain: true,
        ..Dialect::default()
    };
    if let Ok(lines) = tasks_as(plain, list, &cuts) {
        for line in lines {
            let attributes = super::super::attributes::split(line.as_bytes()).1;
            prop_assert!(attributes.unwrap_or_default().is_empty());
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn rules_hold(list in lists(), cuts in proptest::collection::vec(0..400usize, 0..6)) {
        check_rules(&list, &cuts)?;
    }
}

/// The same rules for random lists, for as many seconds as `FUZZ_SECONDS` says:
/// `FUZZ_SECONDS=600 cargo test --lib -- --ignored --nocapture fuzz_lists`
#[test]
#[ignore = "runs as long as it is asked to"]
fn fuzz_lists() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
    let seconds = std::env::var("FUZZ_SECONDS").ok();
    let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(1);
    let (begin, limit) = (
        std::time::Instant::now(),
        std::time::Duration::from_secs(seconds),
    );
    let seed: [u8; 32] = std::array::from_fn(|_| fastrand::u8(..));
    println!("seed {seed:?}");
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let strategy = (lists(), proptest::collection::vec(0..400usize, 0..6));
    let (mut inputs, mut good) = (0u64, 0u64);
    while begin.elapsed() < limit {
        for _ in 0..1000 {
            let (mut list, cuts) = strategy.new_tree(&mut runner).unwrap().current();
            // Also lists of which some bytes are any.
            if fastrand::u8(..4) == 0 && !list.is_empty() {
                let at = fastrand::usize(..list.len());
                list[at] = fastrand::u8(..);
            }
            inputs += 1;
            good += u64::from(
                tasks_as(Dialect::default(), &list, &[]).is_ok_and(|tasks| !tasks.is_empty()),
            );
            if let Err(error) = check_rules(&list, &cuts) {
                panic!(
                    "{:?}, cut at {cuts:?}: {error}",
                    String::from_utf8_lossy(&list)
                );
            }
        }
    }
    println!("{inputs} lists, {good} of them with tasks and without an error");
}
