"use strict";
const boxes = [...document.querySelectorAll("input[name=run]")];
const button = document.getElementById("compare");
const count = () => (button.disabled = boxes.filter((box) => box.checked).length < 2);
if (button) {
  boxes.forEach((box) => box.addEventListener("change", count));
  count();
}
