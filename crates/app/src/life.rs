//! The commands of a cluster's life have this in common: they are judged first, then begun, then watched until they are
//! done.

use crate::status::find_config;
use anyhow::bail;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use trivet_node::admin::{self, LifeAction, LifeAnswer, LifeAsk};
use trivet_node::config::NodeConfig;

/// Time within which a LEADER has to answer, or the order fails for lack of one.
const LIMIT: Duration = Duration::from_secs(15);
/// Pause between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(500);

#[derive(clap::Args)]
pub struct Options {
    /// Data folder of `trivet up`, or a node.toml
    #[arg(long, default_value = "trivet-data", global = true)]
    data: PathBuf,
    /// Say whether it is safe, and what would be done, and change nothing
    #[arg(long, global = true)]
    dry_run: bool,
    /// Print JSON: one line when it was judged, and one with each step of progress
    #[arg(long, global = true)]
    json: bool,
    /// Begin, and do not wait for the end
    #[arg(long, global = true)]
    no_wait: bool,
    /// The word of the dry run, for what loses data
    #[arg(
        long,
        global = true,
        value_name = "WORD",
        default_value = "",
        hide_default_value = true,
        conflicts_with = "dry_run"
    )]
    confirm: String,
}

impl Options {
    pub fn json(&self) -> bool {
        self.json
    }
    pub fn confirm(&self) -> &str {
        &self.confirm
    }
    pub fn dry_run(&self) -> bool {
        self.dry_run
    }
    pub fn data(&self) -> &std::path::Path {
        &self.data
    }

    /// Judges, begins, and waits for the end.
    ///
    /// # Errors
    /// The step is not safe, or no metad could judge it.
    pub fn run(&self, action: LifeAction) -> anyhow::Result<()> {
        let config = find_config(&self.data)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.carry_out(&config, action))
    }

    async fn carry_out(&self, config: &NodeConfig, action: LifeAction) -> anyhow::Result<()> {
        let confirm = &self.confirm;
        let ask = |dry_run, progress| LifeAsk {
            action: Some(action.clone()),
            dry_run,
            progress,
            confirmation: confirm.clone(),
        };
        let judged = admin::life(config, ask(true, false), LIMIT).await?;
        self.tell("judged", &judged);
        refused(&judged)?;
        // A LEADER of the version before does not know the command, and answers with nothing.
        if matches!(action, LifeAction::FinalizeUpgrade(_)) && judged.steps.is_empty() && !judged.done {
            bail!(
                "not done: the node of metad's LEADER runs the version of the program before; upgrade the node that \
                 `trivet status` names as LEADER"
            );
        }
        if self.dry_run {
            return self.confirmation(&judged);
        }
        // The LEADER judges it once more before it begins.
        let begun = admin::life(config, ask(false, false), LIMIT).await?;
        refused(&begun)?;
        let mut last = begun;
        let began = Instant::now();
        let (first, mut shown) = (last.copies_left, u64::MAX);
        while !last.done && !self.no_wait {
            if shown != last.copies_left {
                shown = last.copies_left;
                self.progress(&last, first, began);
            }
            tokio::time::sleep(LOOK).await;
            last = admin::life(config, ask(false, true), LIMIT).await?;
        }
        // The LEADER may have no more to say of what is done: what it said before holds.
        if last.next.is_empty() {
            last.next = judged.next;
        }
        if self.json {
            self.tell(if last.done { "done" } else { "begun" }, &last);
            return Ok(());
        }
        if last.done {
            println!("done after {:.1} s", began.elapsed().as_secs_f64());
        } else {
            println!("begun; it continues by itself, and the same command shows how far it is");
        }
        if !last.next.is_empty() {
            println!("next: {}", last.next);
        }
        Ok(())
    }

    /// After a dry run of something that loses data: how it is meant.
    fn confirmation(&self, judged: &LifeAnswer) -> anyhow::Result<()> {
        if !self.json && !judged.confirmation.is_empty() {
            println!(
                "to do exactly this: the same command with `--confirm {}` instead of `--dry-run`",
                judged.confirmation
            );
        }
        Ok(())
    }

    fn progress(&self, answer: &LifeAnswer, first: u64, began: Instant) {
        if self.json {
            return self.tell("progress", answer);
        }
        if answer.copies_left == 0 {
            return println!("waiting until addresses, files and leadership are where they are to be");
        }
        let done = first.saturating_sub(answer.copies_left);
        let rate = done as f64 / began.elapsed().as_secs_f64().max(0.1);
        println!("{} copies left, {rate:.1} a second", answer.copies_left);
    }

    fn tell(&self, stage: &str, answer: &LifeAnswer) {
        if self.json {
            println!("{}", json(stage, answer));
            return;
        }
        for step in &answer.steps {
            println!("- {step}");
        }
        if answer.refusals.is_empty() && !answer.steps.is_empty() {
            let loses = !answer.confirmation.is_empty();
            println!("{}", if loses { "THIS LOSES DATA, and cannot be undone" } else { "this is safe" });
        }
    }
}

fn refused(answer: &LifeAnswer) -> anyhow::Result<()> {
    if answer.refusals.is_empty() {
        return Ok(());
    }
    let why: Vec<String> = answer.refusals.iter().map(|r| format!("{}; {}", r.reason, r.advice)).collect();
    bail!("not done: {}", why.join("\n       and: "))
}

/// Version of the lines that `--json` prints.
const SCHEMA: &str = "trivet.life/1";

fn json(stage: &str, a: &LifeAnswer) -> String {
    let refusals: Vec<_> = a
        .refusals
        .iter()
        .map(|r| serde_json::json!({"code": r.code, "reason": r.reason, "advice": r.advice}))
        .collect();
    serde_json::json!({
        "schema": SCHEMA, "stage": stage, "safe": a.refusals.is_empty(), "refusals": refusals, "steps": a.steps,
        "copies_left": a.copies_left, "done": a.done, "next": a.next, "confirmation": a.confirmation,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use trivet_node::admin::Refusal;

    #[test]
    fn a_refusal_says_what_is_wrong_and_what_to_do_and_json_has_both() {
        let refusal = Refusal { code: "last-copy".into(), reason: "it is the last".into(), advice: "wait".into() };
        let answer = LifeAnswer { refusals: vec![refusal.clone(), refusal], ..Default::default() };
        let text = refused(&answer).unwrap_err().to_string();
        assert!(text.contains("it is the last; wait") && text.matches("and:").count() == 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&json("judged", &answer)).unwrap();
        assert_eq!((line["safe"].as_bool(), line["refusals"][0]["code"].as_str()), (Some(false), Some("last-copy")));
        assert!(refused(&LifeAnswer::default()).is_ok());
    }
}
