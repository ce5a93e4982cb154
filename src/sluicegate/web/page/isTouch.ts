/** Whether the keyboard is on the screen: to focus a field would open it, over what one reads. */
export const isTouch = (): boolean => matchMedia("(pointer: coarse)").matches;
