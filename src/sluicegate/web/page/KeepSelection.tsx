import { Component, type ReactNode } from "react";

type Selected = Pick<Selection, "anchorNode" | "anchorOffset" | "focusNode" | "focusOffset">;

/** Keeps what its reader has selected while the text grows: where React sets a text anew, the DOM forgets a selection in it. */
export class KeepSelection extends Component<{ readonly children: ReactNode }> {
  override getSnapshotBeforeUpdate(): Selected | null {
    const selection = getSelection();
    if (!selection || selection.isCollapsed) return null;
    const { anchorNode, anchorOffset, focusNode, focusOffset } = selection;
    return { anchorNode, anchorOffset, focusNode, focusOffset };
  }

  override componentDidUpdate(_props: unknown, _state: unknown, before: Selected | null): void {
    if (!before) return;
    const { anchorNode, anchorOffset, focusNode, focusOffset } = before;
    const now = getSelection()!;
    const isKept = now.anchorNode === anchorNode && now.anchorOffset === anchorOffset
      && now.focusNode === focusNode && now.focusOffset === focusOffset;
    if (!isKept && holds(anchorNode, anchorOffset) && holds(focusNode, focusOffset)) {
      now.setBaseAndExtent(anchorNode, anchorOffset, focusNode, focusOffset);
    }
  }

  override render(): ReactNode {
    return this.props.children;
  }
}

function holds(node: Node | null, offset: number): node is Node {
  if (!node?.isConnected) return false;
  return offset <= (node instanceof Text ? node.length : node.childNodes.length);
}
