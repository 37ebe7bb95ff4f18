// Small improvements of the pages, which work without any script too.
"use strict";
