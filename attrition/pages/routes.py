"""The addresses of the pages, and the view behind each."""

from flask import Blueprint

from attrition.pages import client, client_list, docs, effect, forms, frame, sign_in, status, today

pages = Blueprint("pages", __name__)

pages.app_context_processor(frame.add_person)
pages.app_context_processor(status.add_frame)

pages.get("/")(today.show_today)
pages.get("/list")(client_list.show_list)
pages.get("/list.csv")(client_list.export_view)
pages.get("/list.xlsx")(client_list.export_workbook)
pages.post("/list")(forms.save_entries)
pages.post("/list/sheet")(forms.upload_sheet)
pages.get("/client", defaults={"name": ""})(client.show_client_page)
pages.get("/client/<client:name>")(client.show_client_page)
pages.post("/client", defaults={"name": ""})(forms.save_entry)
pages.post("/client/<client:name>")(forms.save_entry)
pages.get("/effect")(effect.show_effect)
pages.get("/model")(status.show_model)
pages.get("/data")(status.show_data)
pages.get("/system")(status.show_system)
pages.get("/docs")(docs.show_docs)
pages.get("/sign-in")(sign_in.sign_in)
pages.post("/sign-in")(sign_in.sign_in)
pages.post("/sign-out")(sign_in.sign_out)
