//! What thousands of rules hold of memory.

use cap::Cap;
use jackfield::router::{Generation, RuleFile};

/// The binary's allocator, counting.
#[global_allocator]
static ALLOCATOR: Cap<mimalloc::MiMalloc> = Cap::new(mimalloc::MiMalloc, usize::MAX);

fn rule(number: usize) -> String {
    format!(
        "[[route]]\nname = \"route-{number}\"\norder_by = \"{{{{ event.data.project.id }}}}\"\n\
         when.type = [\"com.example.service-{number}.changed\"]\n\n[[route.step]]\nuse = \"slack\"\nif = \"event.data.title is defined\"\n\
         with = {{ channel = \"#{number}\", text = \"{{{{ event.data.title }}}} by {{{{ event.data.actor.name | default('nobody') }}}}\" }}\n\n"
    )
}

/// Of a rule with four templates and two hundred bytes of text: what is compiled is made anew where it is rendered, since it is
/// many times as large as what it is made from.
#[test]
fn a_rule_takes_a_few_times_its_text() {
    let count = 2000;
    let text: String = (0..count).map(rule).collect();
    let length = text.len();
    let file = RuleFile {
        name: "routes.toml".to_owned(),
        text,
    };
    // Whatever is made once for all is there before.
    let first =
        Generation::compile(std::slice::from_ref(&file), None).unwrap_or_else(|faults| panic!("{faults}"));
    let before = ALLOCATOR.allocated();
    let second = Generation::compile(&[file], None).unwrap_or_else(|faults| panic!("{faults}"));
    let [taken, most, length] = [
        ALLOCATOR.allocated() - before,
        ALLOCATOR.max_allocated() - before,
        length,
    ]
    .map(|bytes| bytes / count);
    println!("{taken} bytes for a rule of {length}, {most} at most");
    assert!(taken < 10 * length, "{taken} bytes for a rule of {length}");
    // What a file is read into takes many times its text, too: there is never more than one rule of it.
    assert!(most < 2 * taken, "{most} bytes at most, {taken} in the end");
    assert_eq!(first.id(), second.id());
}
