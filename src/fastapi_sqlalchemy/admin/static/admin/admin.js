// What the templates of starlette-admin say in inline handlers, which the Content-Security-Policy refuses.
document.addEventListener("click", function (event) {
  if (event.target.closest('[data-admin-action="apply-columns"]')) applyColumnVisibility();
});
document.addEventListener("change", function (event) {
  var control = event.target.closest('[data-admin-action="follow"]');
  if (control) window.location = control.value;
});
