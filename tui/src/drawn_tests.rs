//! What the screens look like: pictures as plain text, and properties of every picture.
//!
//! Pictures are in ASCII, one also in Unicode; blanks at the ends of lines are left out.

use crate::app::{App, Problem};
use crate::draw::{self, HEIGHT_MIN, WIDTH_MIN};
use crate::theme::Theme;
use quickcheck::{Arbitrary, Gen, QuickCheck};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::Color;
use std::path::PathBuf;
use std::time::Duration;
use tcat_api::ClientError;
use tcat_api::types::{
    ByteCounts, ClientStatus, MediaCounts, PeerStatus, Status, TaskStatus, WorkgroupStatus,
};

const ASCII: Theme = Theme::new(true, true);
const UNICODE: Theme = Theme::new(true, false);

fn buffer(app: &App, now: Duration, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw::draw(frame, app, now)).unwrap();
    terminal.backend().buffer().clone()
}

/// The picture as text. The cell behind a wide character holds a blank of its own, which is left out.
fn picture(app: &App, now: Duration, width: u16, height: u16) -> String {
    let buffer = buffer(app, now, width, height);
    let mut lines = Vec::new();
    for y in 0..height {
        let (mut line, mut x) = (String::new(), 0);
        while x < width {
            let symbol = buffer[(x, y)].symbol();
            line.push_str(symbol);
            x += u16::try_from(crate::text::width(symbol).max(1)).unwrap();
        }
        lines.push(line.trim_end().to_owned());
    }
    lines.join("\n").trim_end().to_owned()
}

fn expect(drawn: &str, expected: &str) {
    let expected = expected.trim_matches('\n');
    assert!(drawn == expected, "drawn:\n{drawn}\nexpected:\n{expected}");
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn peer(name: &str, alive: bool, last_contact_ms: Option<u64>, lag: u64) -> PeerStatus {
    PeerStatus { id: name.into(), name: name.into(), alive, last_contact_ms, lag, ..Default::default() }
}

fn task(kind: &str, item: u32, state: &str, done: u64, total: Option<u64>) -> TaskStatus {
    TaskStatus {
        id: format!("{kind}-{item}"),
        item: format!("{item:08}-4c1b-4f6e-9d2a-5b7c8d9e0f11"),
        kind: kind.into(),
        state: state.into(),
        done_bytes: done,
        total_bytes: total,
        error: None,
    }
}

fn settled() -> Status {
    Status {
        client: ClientStatus { id: "a7c3d1e2f4b5".into(), name: "anna".into(), incarnation: 1 },
        workgroup: WorkgroupStatus { id: "w".into(), name: "films".into(), clock: 4 },
        settled: true,
        peers: vec![peer("ben", true, Some(400), 0), peer("carla", false, Some(7_500_000), 12)],
        media: MediaCounts { total: 12, settled: 12, ..Default::default() },
        bytes: ByteCounts { lan_in: 1_500_000, cloud_out: 999, ..Default::default() },
        ..Default::default()
    }
}

fn working() -> Status {
    let failed = TaskStatus {
        error: Some("the object store refused the upload: 503;\n try later".into()),
        ..task("retry", 4, "waiting", 0, None)
    };
    Status {
        settled: false,
        media: MediaCounts {
            total: 200,
            settled: 150,
            uploading: 2,
            downloading: 28,
            conflict: 1,
            missing: 3,
            parked: 0,
        },
        tasks: vec![
            task("download", 1, "waiting", 0, Some(70)),
            task("download", 2, "fetching from a member", 43_000_000, Some(100_000_000)),
            task("import", 3, "running", 0, None),
            failed,
        ],
        ..settled()
    }
}

fn of(status: Status, theme: Theme) -> App {
    let mut app = App::new("h".into(), theme);
    app.hear(Ok(status), s(1));
    app
}

/// Ten seconds of answers, with bytes from members that come ever faster and a burst to the store.
fn with_flow(mut status: Status, theme: Theme) -> App {
    let mut app = App::new("h".into(), theme);
    for step in 0..=20_u64 {
        status.bytes.lan_in += step * 100_000;
        status.bytes.cloud_out += if step == 5 { 700_000 } else { 0 };
        app.hear(Ok(status.clone()), Duration::from_millis(500 * step));
    }
    app
}

fn thousand() -> Status {
    let tasks =
        (0..1000).map(|n| task("download", n, if n == 999 { "claiming" } else { "waiting" }, 0, Some(9)));
    Status { tasks: tasks.collect(), ..working() }
}

fn not_running() -> Problem {
    Problem::of(&ClientError::NotRunning(PathBuf::from("films")))
}

#[test]
fn a_settled_node() {
    let drawn = picture(&of(settled(), ASCII), s(1), 80, 24);
    expect(
        &drawn,
        r#"
tcat  anna (a7c3d1e2) in films                                           settled

members 2  state  heard        behind by
ben        live   400 ms ago   -
carla      away   2 h ago      12 entries

items 12 of 12 settled
########################################################################## 100 %

bytes         total     now         last minute
from members  1.5 MB    -
to members    0 B       -
from store    0 B       -
to store      999 B     -

no tasks







q quit   r refresh   ? help
"#,
    );
}

#[test]
fn a_working_node_shows_what_it_does_and_what_failed() {
    let drawn = picture(&with_flow(working(), ASCII), s(10), 80, 24);
    expect(
        &drawn,
        r#"
tcat  anna (a7c3d1e2) in films                                           working

members 2  state  heard        behind by
ben        live   400 ms ago   -
carla      away   2 h ago      12 entries

items 150 of 200 settled, 2 uploading, 28 downloading, 1 conflict, 3 missing
#######################################################+++++++++++........  75 %

bytes         total     now         last minute
from members  22.5 MB   3.5 MB/s                                         .:-=+*#
to members    0 B       -
from store    0 B       -
to store      701.0 kB  -                                                 #

tasks 4       item                                  state                  done
download      00000002-4c1b-4f6e-9d2a-5b7c8d9e0f11  fetching from a me...   43 %
import        00000003-4c1b-4f6e-9d2a-5b7c8d9e0f11  running                -
retry         00000004-4c1b-4f6e-9d2a-5b7c8d9e0f11  waiting                -
  the object store refused the upload: 503; try later
download      00000001-4c1b-4f6e-9d2a-5b7c8d9e0f11  waiting                  0 %


q quit   r refresh   ? help
"#,
    );
}

#[test]
fn the_same_in_unicode_with_room_for_bars() {
    let drawn = picture(&with_flow(working(), UNICODE), s(10), 120, 24);
    expect(
        &drawn,
        r#"
tcat  anna (a7c3d1e2) in films                                                                                   working

members 2  state  heard        behind by
ben        live   400 ms ago   -
carla      away   2 h ago      12 entries

items 150 of 200 settled, 2 uploading, 28 downloading, 1 conflict, 3 missing, 0 parked
█████████████████████████████████████████████████████████████████████████████████████▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒░░░░░░░░░░░░  75 %

bytes         total     now         last minute
from members  22.5 MB   3.5 MB/s                                                      ▁▂▃▄▄▅▆▇██
to members    0 B       -
from store    0 B       -
to store      701.0 kB  -                                                               █

tasks 4       item                                  state                    progress
download      00000002-4c1b-4f6e-9d2a-5b7c8d9e0f11  fetching from a member   ██████████░░░░░░░░░░░░░░░  43 % of 100.0 MB
import        00000003-4c1b-4f6e-9d2a-5b7c8d9e0f11  running                  -
retry         00000004-4c1b-4f6e-9d2a-5b7c8d9e0f11  waiting                  -
  the object store refused the upload: 503; try later
download      00000001-4c1b-4f6e-9d2a-5b7c8d9e0f11  waiting                  ░░░░░░░░░░░░░░░░░░░░░░░░░   0 % of 70 B


q quit   r refresh   ? help
"#,
    );
}

#[test]
fn a_thousand_tasks_are_counted_and_those_that_run_come_first() {
    let drawn = picture(&of(thousand(), ASCII), s(1), 80, 24);
    expect(
        &drawn,
        r#"
tcat  anna (a7c3d1e2) in films                                           working

members 2  state  heard        behind by
ben        live   400 ms ago   -
carla      away   2 h ago      12 entries

items 150 of 200 settled, 2 uploading, 28 downloading, 1 conflict, 3 missing
#######################################################+++++++++++........  75 %

bytes         total     now         last minute
from members  1.5 MB    -
to members    0 B       -
from store    0 B       -
to store      999 B     -

tasks 1000    item                                  state                  done
download      00000999-4c1b-4f6e-9d2a-5b7c8d9e0f11  claiming                 0 %
download      00000000-4c1b-4f6e-9d2a-5b7c8d9e0f11  waiting                  0 %
download      00000001-4c1b-4f6e-9d2a-5b7c8d9e0f11  waiting                  0 %
download      00000002-4c1b-4f6e-9d2a-5b7c8d9e0f11  waiting                  0 %
download      00000003-4c1b-4f6e-9d2a-5b7c8d9e0f11  waiting                  0 %
download      00000004-4c1b-4f6e-9d2a-5b7c8d9e0f11  waiting                  0 %
+ 994 more
q quit   r refresh   ? help
"#,
    );
}

#[test]
fn a_thousand_tasks_at_the_smallest_useful_size() {
    let drawn = picture(&of(thousand(), ASCII), s(1), WIDTH_MIN, HEIGHT_MIN);
    expect(
        &drawn,
        r#"
tcat  anna (a7c3d1e2) in films   working
members 2  state  heard        behind by
ben        live   400 ms ago   -
carla      away   2 h ago      12
items 150 of 200 settled, 2 uploading,
28 downloading, 1 conflict, 3 missing
#########################+++++....  75 %
tasks 1000    item       state     done
download      000009...  claiming    0 %
download      000000...  waiting     0 %
+ 998 more
q quit   r refresh   ? help
"#,
    );
}

#[test]
fn a_terminal_that_is_too_small_still_tells_the_health() {
    let drawn = picture(&of(settled(), ASCII), s(1), 20, 5);
    expect(
        &drawn,
        r#"
settled
terminal too small
20x5, needs 40x12
q quit
"#,
    );
}

#[test]
fn a_node_that_never_ran_says_what_to_do() {
    let mut app = App::new("/srv/films".into(), ASCII);
    app.hear(Err(not_running()), s(1));
    let drawn = picture(&app, s(1), 80, 12);
    expect(
        &drawn,
        r#"
tcat  /srv/films                                                     not running
the node of films is not running; start it with `tcat run`. Still trying.









q quit   r refresh   ? help
"#,
    );
}

#[test]
fn a_node_that_stopped_leaves_its_last_state_with_its_age() {
    let mut app = of(settled(), ASCII);
    app.hear(Err(not_running()), s(13));
    let drawn = picture(&app, s(13), 80, 24);
    expect(
        &drawn,
        r#"
tcat  anna (a7c3d1e2) in films                                       not running
the node of films is not running; start it with `tcat run`. Still trying. Below:
how things stood 12 s ago.

members 2  state  heard        behind by
ben        live   400 ms ago   -
carla      away   2 h ago      12 entries

items 12 of 12 settled
########################################################################## 100 %

bytes         total     now         last minute
from members  1.5 MB    -
to members    0 B       -
from store    0 B       -
to store      999 B     -

no tasks





q quit   r refresh   ? help
"#,
    );
}

#[test]
fn the_help_lies_above_the_screen() {
    let mut app = of(settled(), ASCII);
    app.help = true;
    let drawn = picture(&app, s(1), 80, 24);
    expect(
        &drawn,
        r#"
tcat  anna (a7c3d1e2) in films                                           settled
         + help ------------------------------------------------------+
members 2|q            quit                                           |
ben      |r            ask the node now                               |
carla    |? or Esc     close this help                                |
         |settled      nothing left to do                             |
items 12 |working      something is left to do                        |
#########|alone        settled, and no other member is live           |### 100 %
         |held         the brake waits for a person's decision        |
bytes    |not running  no node runs in this home                      |
from memb|starting     the node is starting or stopping               |
to member|refused      the node does not know our token or workgroup  |
from stor|no answer    a node runs, but no good answer comes          |
to store |live, away   heard within the lease, or not                 |
         |behind by    entries between what it and this node know     |
no tasks |conflicts    items with a second content kept beside        |
         |missing      wanted here, and nobody reachable has it       |
         |parked       given up after too many attempts               |
         |retrying     failed, and will be tried again                |
         |total        bytes since the node's start                   |
         |last minute  each line on a scale of its own                |
         +------------------------------------------------------------+

q quit   r refresh   ? help
"#,
    );
}

#[test]
fn a_help_that_does_not_fit_says_so() {
    let mut app = of(settled(), ASCII);
    app.help = true;
    let drawn = picture(&app, s(1), WIDTH_MIN, HEIGHT_MIN);
    expect(
        &drawn,
        r#"
tcat  anna (a7c3d1e2) in films   settled
+ help --------------------------------+
|q            quit                     |
|r            ask the node now         |
|? or Esc     close this help          |
|settled      nothing left to do       |
|working      something is left to do  |
|alone        settled, and no other ...|
|held         the brake waits for a ...|
|a larger terminal shows the rest      |
+--------------------------------------+
q quit   r refresh   ? help
"#,
    );
}

/// Any answer: names with anything in them, counts of any size, contradictions too.
#[derive(Clone, Debug)]
struct AnyStatus(Status);

impl Arbitrary for AnyStatus {
    fn arbitrary(g: &mut Gen) -> Self {
        let text = |g: &mut Gen| match u8::arbitrary(g) % 4 {
            0 => String::arbitrary(g),
            1 => "\u{1b}[2J\u{7}\r\n\u{9b}31m\u{202e}x\u{0}".repeat(usize::arbitrary(g) % 40),
            2 => "王👩\u{200d}👧e\u{301}\u{301}\u{ff9e}\u{1100}\u{fe0f}".repeat(usize::arbitrary(g) % 40),
            _ => "name".to_owned(),
        };
        let peers = (0..usize::arbitrary(g) % 70).map(|_| PeerStatus {
            id: text(g),
            name: text(g),
            alive: bool::arbitrary(g),
            last_contact_ms: Option::arbitrary(g),
            lag: u64::arbitrary(g),
            ..Default::default()
        });
        let peers = peers.collect();
        let tasks = (0..usize::arbitrary(g) % 70).map(|_| TaskStatus {
            id: text(g),
            item: text(g),
            kind: text(g),
            state: g
                .choose(&["running", "parked", "retrying", "x"])
                .map_or_else(String::new, |s| (*s).into()),
            done_bytes: u64::arbitrary(g),
            total_bytes: Option::arbitrary(g),
            error: bool::arbitrary(g).then(|| text(g)),
        });
        let tasks = tasks.collect();
        let mut n = || u64::arbitrary(g);
        let bytes = ByteCounts { lan_in: n(), lan_out: n(), cloud_in: n(), cloud_out: n() };
        let media = MediaCounts {
            total: n(),
            settled: n(),
            uploading: n(),
            downloading: n(),
            conflict: n(),
            missing: n(),
            parked: n(),
        };
        Self(Status {
            client: ClientStatus { id: text(g), name: text(g), incarnation: 0 },
            workgroup: WorkgroupStatus { id: text(g), name: text(g), clock: 0 },
            settled: bool::arbitrary(g),
            brake: bool::arbitrary(g),
            peers,
            media,
            tasks,
            bytes,
            ..Default::default()
        })
    }
}

/// What every picture keeps to.
fn is_sound(drawn: &Buffer, theme: Theme, in_ascii: bool) -> bool {
    let swallowed = [Color::White, Color::Black, Color::Yellow, Color::Gray, Color::DarkGray];
    drawn.content().iter().all(|cell| {
        let cleaned = theme.shown(cell.symbol()) == cell.symbol();
        let ascii = !in_ascii || cell.symbol().is_ascii();
        cleaned && ascii && cell.bg == Color::Reset && !swallowed.contains(&cell.fg)
    })
}

#[test]
fn any_state_at_any_size_is_drawn_without_panic_control_character_or_background() {
    fn property(states: (AnyStatus, AnyStatus), size: (u8, u8), flags: (bool, bool, bool), ms: u32) -> bool {
        let ((AnyStatus(first), AnyStatus(second)), (ascii, help, fails)) = (states, flags);
        let theme = Theme::new(true, ascii);
        let mut app = App::new("h\u{1b}c".into(), theme);
        app.help = help;
        let now = Duration::from_millis(ms.into());
        let sizes = [(u16::from(size.0), u16::from(size.1) / 3), (80, 24), (40, 12), (20, 5), (1, 1), (0, 0)];
        let mut states = vec![Ok(first), Ok(second)];
        if fails {
            states.push(Err(Problem { why: "w\u{1b}".repeat(200), ..not_running() }));
        }
        std::iter::once(None).chain(states.into_iter().map(Some)).all(|state| {
            if let Some(state) = state {
                app.hear(state, now / 2);
            }
            sizes.iter().all(|(width, height)| {
                [now / 2, now].iter().all(|at| is_sound(&buffer(&app, *at, *width, *height), theme, ascii))
            })
        })
    }
    QuickCheck::new()
        .tests(25)
        .quickcheck(property as fn((AnyStatus, AnyStatus), (u8, u8), (bool, bool, bool), u32) -> bool);
}

#[test]
fn without_colours_no_cell_has_one() {
    let plain = Theme::new(false, false);
    let mut app = with_flow(working(), plain);
    for _ in 0..2 {
        let drawn = buffer(&app, s(10), 80, 24);
        assert!(drawn.content().iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
        app.hear(Err(not_running()), s(10));
    }
    let colored = buffer(&with_flow(working(), UNICODE), s(10), 80, 24);
    assert!(colored.content().iter().any(|cell| cell.fg != Color::Reset));
}

#[test]
fn the_smallest_useful_size_shows_every_part_that_a_person_must_see() {
    let drawn = picture(&of(working(), ASCII), s(1), WIDTH_MIN, HEIGHT_MIN);
    for part in ["working", "members 2", "items 150 of 200 settled", "tasks 4", "q quit"] {
        assert!(drawn.contains(part), "{part} is not in\n{drawn}");
    }
    assert!(!drawn.contains("too small"));
    assert!(picture(&of(working(), ASCII), s(1), WIDTH_MIN, HEIGHT_MIN - 1).contains("too small"));
}
