//! The screen of `agent status`: the host in two lines, a table of the services with what needs attention below
//! each, and at the end what this host cannot do as well as asked.

mod line;
mod table;

use std::fmt::Write as _;

use jiff::Timestamp;
use state::text::Escaped;

use self::line::line;
use self::table::table;
pub(in crate::command) use self::table::waits;
use super::shown::Shown;
use crate::output::{Colour, Paint, age};
use crate::status::{PassView, RemoteView, Status};

/// The status as one screen.
pub(in crate::command) fn render(shown: &Shown, now: Timestamp, paint: Paint) -> String {
    let status = &shown.status;
    let mut out = head(shown, now, paint);
    out.push('\n');
    out.push_str(&table(&status.services, now, paint));
    let of_services = status.services.iter().flat_map(|service| {
        let name = &service.name;
        let note = move |note| format!("{name}: {}", Escaped(note));
        service.degraded.iter().map(move |text| note(text))
    });
    let of_host = status.degraded.iter().map(|note| Escaped(note).to_string());
    let mut gap = "\n";
    for note in of_host.chain(of_services) {
        let word = paint.paint(Colour::Yellow, "degraded:");
        let _ = writeln!(out, "{gap}{word} {note}");
        gap = "";
    }
    out
}

/// What is said first when nobody answers.
pub(super) fn not_running(status: &Status, now: Timestamp) -> String {
    let age = age(status.time, now);
    format!("agent not running: this is what it wrote {age} ago")
}

fn head(shown: &Shown, now: Timestamp, paint: Paint) -> String {
    let status = &shown.status;
    let mut out = String::new();
    let verdict = if !shown.live {
        let banner = paint.paint(Colour::Red, not_running(status, now));
        let _ = writeln!(out, "{banner}\n");
        "unknown".to_owned()
    } else if status.is_well(now) {
        paint.paint(Colour::Green, "well")
    } else {
        paint.paint(Colour::Red, "not well")
    };
    let host = paint.paint(Colour::Bold, &status.host);
    let digits = status.domain.trim_start_matches("sha256:").chars().take(12);
    let domain: String = Escaped(&digits.collect::<String>()).to_string();
    let _ = writeln!(
        out,
        "{host} in {}, domain {domain}: {verdict}",
        status.environment
    );
    match &status.pass {
        Some(pass) => out.push_str(&last_pass(pass, now, paint)),
        None => out.push_str("no pass yet: the state repository was not looked at\n"),
    }
    if let Some(settings) = &status.settings {
        let ago = settings.changed.map(|changed| age(changed, now));
        let ago = ago.map_or_else(String::new, |ago| format!(" ({ago} ago)"));
        let text = format!("{}{ago}", Escaped(&settings.sentence()));
        out.push_str(&line("settings", Colour::Yellow, paint, &text));
    }
    if let Some(problem) = &status.proxy {
        let (code, detail) = (Escaped(&problem.code), Escaped(&problem.detail));
        let text = format!("{code}: {detail}; clients get no answer");
        out.push_str(&line("proxy", Colour::Red, paint, &text));
        let remedy = Escaped(&problem.remedy);
        out.push_str(&line("remedy", Colour::Dim, paint, &remedy));
    }
    if let Some(problem) = &status.journal {
        let (code, detail) = (Escaped(&problem.code), Escaped(&problem.detail));
        let text = format!("{code}: {detail}; `agent history` does not learn what happens");
        out.push_str(&line("journal", Colour::Yellow, paint, &text));
        let remedy = Escaped(&problem.remedy);
        out.push_str(&line("remedy", Colour::Dim, paint, &remedy));
    }
    if let Some(glass) = &status.break_glass {
        let text = format!(
            "sequence {} may start though stale, by {} {} ago: {}",
            glass.sequence,
            Escaped(&glass.user),
            age(glass.since, now),
            Escaped(&glass.reason)
        );
        out.push_str(&line("break-glass", Colour::Yellow, paint, &text));
    }
    // What one remote says is said already.
    if status.remotes.len() > 1 {
        for view in &status.remotes {
            out.push_str(&remote(view, now, paint));
        }
    }
    for folder in &status.evidence {
        let text = format!(
            "two statements contradict each other, see '{}'; tell the root holders, then remove it",
            Escaped(&folder.display().to_string())
        );
        out.push_str(&line("evidence", Colour::Red, paint, &text));
    }
    out
}

/// One remote: what it served, when, and why it is not believed now.
fn remote(view: &RemoteView, now: Timestamp, paint: Paint) -> String {
    let mut text = Escaped(&view.url).to_string();
    if let Some(sequence) = view.sequence {
        let _ = write!(text, ", sequence {sequence}");
    }
    if let Some(passed) = view.passed {
        let _ = write!(text, ", passed {} ago", age(passed, now));
    }
    if view.serves {
        text.push_str(", believed");
    }
    if let Some(since) = view.fetching_since {
        let _ = write!(text, ", fetching for {}", age(since, now));
    }
    if let Some(refused) = &view.refused {
        let (code, detail) = (Escaped(&refused.code), Escaped(&refused.detail));
        let code = paint.paint(Colour::Yellow, code);
        let _ = write!(text, "\n    {code}: {detail}");
    }
    line("remote", Colour::Dim, paint, &text)
}

fn last_pass(pass: &PassView, now: Timestamp, paint: Paint) -> String {
    let freshness = match pass.fresh_until {
        Some(until) if now < until => {
            paint.paint(Colour::Green, format!("fresh for {}", age(now, until)))
        }
        Some(until) => paint.paint(Colour::Red, format!("STALE since {}", age(until, now))),
        None => paint.paint(Colour::Red, "nothing accepted yet"),
    };
    let (sequence, last) = (pass.sequence, age(pass.time, now));
    let mut out = format!("sequence {sequence}, {freshness}, last pass {last} ago\n");
    if let Some(refused) = &pass.refused {
        let (code, detail) = (Escaped(&refused.code), Escaped(&refused.detail));
        out.push_str(&line(
            "refused",
            Colour::Red,
            paint,
            &format!("{code}: {detail}"),
        ));
        out.push_str(&line(
            "remedy",
            Colour::Dim,
            paint,
            &Escaped(&refused.remedy),
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::sample::{self, ago, now};
    use crate::deployment::phase::Phase;
    use crate::status::HeldKind;

    fn shown(change: impl FnOnce(&mut Status)) -> String {
        let mut status = sample::status();
        change(&mut status);
        let live = true;
        render(&Shown { status, live }, now(), Paint::Plain)
    }

    #[test]
    fn a_well_host_is_a_calm_table() {
        insta::assert_snapshot!(shown(|_| ()), @r"
        web-1 in prod, domain 3f3f3f3f3f3f: well
        sequence 42, fresh for 23h, last pass 12s ago

        SERVICE  RELEASE       SOURCE        PHASE  HEALTH   AGE
        api      111111111111  b1b1b1b1b1b1  live   healthy  3h
        web      222222222222  c2c2c2c2c2c2  live   healthy  3h
        worker   333333333333  d3d3d3d3d3d3  live   healthy  3h
        ");
    }

    #[test]
    fn a_deployment_under_way_says_what_comes_and_how_long_it_takes() {
        insta::assert_snapshot!(shown(|status| {
            status.services.truncate(2);
            let api = &mut status.services[0];
            api.phase = "building".to_owned();
            api.deployment = Some(sample::deployment(0x44, Phase::Building));
            let web = &mut status.services[1];
            web.phase = "baking".to_owned();
            let mut baking = sample::deployment(0x22, Phase::Baking);
            baking.baked_at = Some(ago(-125));
            web.deployment = Some(baking);
        }), @r"
        web-1 in prod, domain 3f3f3f3f3f3f: well
        sequence 42, fresh for 23h, last pass 12s ago

        SERVICE  RELEASE       SOURCE        PHASE     HEALTH   AGE
        api      111111111111  b1b1b1b1b1b1  building  healthy  3h
          deploy: #4 to 444444444444 from source e4e4e4e4e4e4: building for 12s
        web      222222222222  c2c2c2c2c2c2  baking    healthy  3h
          deploy: #4 to 222222222222 from source c2c2c2c2c2c2: baking, 2m left
        ");
    }

    #[test]
    fn a_held_release_has_its_reason_and_remedy_below_it() {
        insta::assert_snapshot!(shown(|status| {
            let web = &mut status.services[1];
            web.desired = Some(sample::release(0x44));
            web.held = Some(sample::held(HeldKind::Failed));
        }), @r"
        web-1 in prod, domain 3f3f3f3f3f3f: not well
        sequence 42, fresh for 23h, last pass 12s ago

        SERVICE  RELEASE       SOURCE        PHASE  HEALTH   AGE
        api      111111111111  b1b1b1b1b1b1  live   healthy  3h
        web      222222222222  c2c2c2c2c2c2  live   healthy  3h
          held: NOT_READY: GET /ready: 503 \u{1b}[2J, 3 times
          remedy: read its log: `agent logs web`
          since: 2026-11-21 10:00:00Z (2h ago), release 444444444444
        worker   333333333333  d3d3d3d3d3d3  live   healthy  3h
        ");
    }

    #[test]
    fn stale_word_and_a_refused_intake_stand_at_the_top() {
        insta::assert_snapshot!(shown(|status| {
            status.services.truncate(1);
            let pass = status.pass.as_mut().unwrap();
            pass.fresh_until = Some(ago(3 * 3600));
            pass.refused = Some(sample::held(HeldKind::Refused).problem);
        }), @r"
        web-1 in prod, domain 3f3f3f3f3f3f: not well
        sequence 42, STALE since 3h, last pass 12s ago
          refused: NOT_READY: GET /ready: 503 \u{1b}[2J, 3 times
          remedy: read its log: `agent logs web`

        SERVICE  RELEASE       SOURCE        PHASE  HEALTH   AGE
        api      111111111111  b1b1b1b1b1b1  live   healthy  3h
        ");
    }

    #[test]
    fn several_remotes_are_told_apart() {
        insta::assert_snapshot!(shown(|status| {
            status.remotes = sample::remotes();
            status.services.clear();
        }), @r"
        web-1 in prod, domain 3f3f3f3f3f3f: well
        sequence 42, fresh for 23h, last pass 12s ago
          remote: https://git.example.org/state.git, sequence 42, passed 12s ago, believed
          remote: https://mirror.example.org/state.git, sequence 40, passed 2h ago, fetching for 30s
            NOT_READY: GET /ready: 503 \u{1b}[2J, 3 times

        no services
        ");
    }

    #[test]
    fn a_host_that_has_done_nothing_yet_says_so() {
        insta::assert_snapshot!(shown(|status| {
            status.pass = None;
            status.services.clear();
        }), @r"
        web-1 in prod, domain 3f3f3f3f3f3f: not well
        no pass yet: the state repository was not looked at

        no services
        ");
    }

    #[test]
    fn without_an_agent_the_first_line_says_how_old_the_rest_is() {
        let status = sample::everything();
        let live = false;
        insta::assert_snapshot!(render(&Shown { status, live }, now(), Paint::Plain), @r"
        agent not running: this is what it wrote 3m ago

        web-1 in prod, domain 3f3f3f3f3f3f: unknown
        sequence 42, fresh for 23h, last pass 12s ago
          refused: NOT_READY: GET /ready: 503 \u{1b}[2J, 3 times
          remedy: read its log: `agent logs web`
          settings: '/etc/writ/agent.yaml' was changed and would be refused; mend it before the agent is restarted: NOT_READY: GET /ready: 503 \u{1b}[2J, 3 times (5m ago)
          proxy: PROXY_UNAVAILABLE: /run/writ/proxy.sock: Connection refused; clients get no answer
          remedy: start it
          journal: DISK_FULL: '/var/lib/writ/agent/journal': No space left on device; `agent history` does not learn what happens
          remedy: free space
          break-glass: sequence 42 may start though stale, by root, by sudo for alice 5m ago: policy is down, and the fix cannot wait
          remote: https://git.example.org/state.git, sequence 42, passed 12s ago, believed
          remote: https://mirror.example.org/state.git, sequence 40, passed 2h ago, fetching for 30s
            NOT_READY: GET /ready: 503 \u{1b}[2J, 3 times
          evidence: two statements contradict each other, see '/var/lib/writ/agent/evidence/42-0f0f0f0f0f0f'; tell the root holders, then remove it

        SERVICE  RELEASE       SOURCE        PHASE  HEALTH   AGE
        api      111111111111  b1b1b1b1b1b1  live   healthy  3h
        web      222222222222  c2c2c2c2c2c2  live   healthy  3h
          deploy: #4 to 444444444444 from source e4e4e4e4e4e4: baking, 2m left, waits for another build to end
          not started: PORTS_EXHAUSTED: 127.0.0.1:20000 is listened at by process 7 (\u{1b}[2J): no port is free
          remedy: stop what occupies them
          waits: NOT_READY: GET /ready: 503 \u{1b}[2J, 3 times
          remedy: read its log: `agent logs web`
          until: 2026-11-21 12:05:00Z (in 5m), release 222222222222
        worker   333333333333  d3d3d3d3d3d3  live   healthy  3h

        degraded: builds are not confined (sandbox: none)
        degraded: web: limits are not enforced
        ");
    }

    #[test]
    fn colours_change_no_text() {
        let status = sample::everything();
        let shown = Shown { status, live: true };
        let mut plain = render(&shown, now(), Paint::Colours);
        assert!(plain.contains('\u{1b}'));
        for code in [0, 1, 2, 31, 32, 33] {
            plain = plain.replace(&format!("\u{1b}[{code}m"), "");
        }
        assert_eq!(plain, render(&shown, now(), Paint::Plain));
    }
}
