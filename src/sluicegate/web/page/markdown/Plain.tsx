import { Component, type ReactNode } from "react";

interface Props {
  readonly text: string;
  readonly children: ReactNode;
}

/** Its children; as soon as these throw, and from then on, `text` as it came. */
export class Plain extends Component<Props, { readonly isPlain: boolean }> {
  override state = { isPlain: false };

  static getDerivedStateFromError() {
    return { isPlain: true };
  }

  override render() {
    return this.state.isPlain ? <p className="md-plain">{this.props.text}</p> : this.props.children;
  }
}
