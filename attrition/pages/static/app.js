// Small improvements of the pages, which work without any script too.
"use strict";

// A form is sent once; the pressed button must still be part of what is sent.
document.addEventListener("submit", (event) => {
  const form = event.target;
  form.dataset.sent = "";
  setTimeout(() => {
    for (const button of form.querySelectorAll("button")) button.disabled = form.method === "post";
  });
});
window.addEventListener("pageshow", () => {
  for (const form of document.forms) {
    delete form.dataset.sent;
    for (const button of form.querySelectorAll("button")) button.disabled = false;
  }
});

// What was typed is not lost without a question.
const isChanged = (field) =>
  field.matches("[type=radio], [type=checkbox]") ? field.checked !== field.defaultChecked
    : field.matches("select") ? [...field.options].some((one) => one.selected !== one.defaultSelected && one.value)
      : field.type !== "hidden" && field.value !== field.defaultValue;
window.addEventListener("beforeunload", (event) => {
  const forms = [...document.forms].filter((form) => form.method === "post");
  if (forms.some((form) => "sent" in form.dataset)) return;
  const fields = forms.flatMap((form) => [...form.querySelectorAll("input:not([name=client]):not([data-ticks]), select, textarea")]);
  if (fields.some(isChanged)) event.preventDefault();
});

// A choice in a list of a form that only shows something is applied at once.
for (const choice of document.querySelectorAll("select[data-submits]")) {
  choice.addEventListener("change", () => choice.form.requestSubmit());
}

// In a form for several kinds of entries, Enter saves the kind at hand.
document.addEventListener("keydown", (event) => {
  const button = event.key === "Enter" && event.target.matches("input")
    && event.target.closest(".several .entry-form")?.querySelector("button.primary");
  if (!button) return;
  event.preventDefault();
  button.click();
});

// Tick all clients on a page, and count the ticked ones.
for (const all of document.querySelectorAll("[data-ticks]")) {
  const boxes = [...all.form.querySelectorAll(`[name="${all.dataset.ticks}"]`)];
  const count = all.form.querySelector("[data-ticked]");
  const update = () => {
    const ticked = boxes.filter((box) => box.checked).length;
    all.checked = ticked === boxes.length;
    all.indeterminate = ticked > 0 && !all.checked;
    count.textContent = ticked || "";
  };
  all.hidden = false;
  all.addEventListener("change", () => { for (const box of boxes) box.checked = all.checked; update(); });
  for (const box of boxes) box.addEventListener("change", update);
  update();
}

// The weekday of a date that was chosen.
for (const field of document.querySelectorAll("form[method=post] input[type=date]")) {
  const text = document.createElement("span");
  text.className = "note";
  field.after(text);
  const show = () => {
    text.textContent = field.valueAsDate
      ? field.valueAsDate.toLocaleDateString("en", { weekday: "long", timeZone: "UTC" }) : "";
  };
  field.addEventListener("input", show);
  show();
}
