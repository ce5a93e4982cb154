import type { CompileContext } from "mdast-util-from-markdown";
import type { Processor } from "unified";

/**
 * A remark plugin that mends how remark-gfm reads a task: it takes a "[ ]" for one where the paragraph is not an item's
 * own, as right below an empty item, then loses it (or throws, in its build for development). There it is text.
 */
export function remarkTasks(this: Processor): void {
  (this.data().fromMarkdownExtensions ??= []).push({
    exit: {
      taskListCheck(token) {
        if (taskOf(this)) return;
        this.enter({ type: "text", value: this.sliceSerialize(token) }, token);
        this.exit(token);
      },
      taskListCheckValueChecked() {
        check(this, true);
      },
      taskListCheckValueUnchecked() {
        check(this, false);
      },
    },
  });
}

function check(context: CompileContext, isChecked: boolean): void {
  const task = taskOf(context);
  if (task) task.checked = isChecked;
}

/** The item whose own paragraph is open. */
function taskOf({ stack }: CompileContext) {
  const item = stack.at(-2);
  return stack.at(-1)?.type === "paragraph" && item?.type === "listItem" ? item : undefined;
}
